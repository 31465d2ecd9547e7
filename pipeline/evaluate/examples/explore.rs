fn main() { tracescale_evaluate::scaling::explore(); }
