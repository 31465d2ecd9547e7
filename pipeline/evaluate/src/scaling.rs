//! Scaling on recorded series: the model against calibrated HPA, KPA and KEDA.
