//! Strings as small numbers that outlive a batch. Dictionary codes are only valid within their batch; a span that waits for its
//! other side keeps symbols instead, and the string is looked up once per distinct code, not once per row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

use super::columns::Text;
use crate::hash::FastMap;

/// A string, or NULL ([`Symbol::NULL`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Symbol(u32);

/// All strings in use.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, Symbol>,
}

/// A dictionary column with its symbols, filled as rows ask for them.
pub(super) struct Coded<'a> {
    text: Text<'a>,
    symbols: Vec<Option<Symbol>>,
}

/// The new symbol of each old one after unused strings were forgotten.
pub(super) struct Renamed(Vec<Symbol>);

// === impl Symbol ===

impl Symbol {
    /// No string.
    pub(super) const NULL: Self = Self(0);

    /// This symbol, or `other` when it is NULL.
    pub(super) fn or(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::NULL { other() } else { self }
    }
}

// === impl Symbols ===

impl Symbols {
    /// How many strings there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn intern(&mut self, name: &str) -> Symbol {
        if let Some(symbol) = self.by_name.get(name) {
            return *symbol;
        }
        let name: Arc<str> = Arc::from(name);
        self.names.push(Arc::clone(&name));
        let symbol = Symbol(u32::try_from(self.names.len()).unwrap_or(0));
        self.by_name.insert(name, symbol);
        symbol
    }

    fn name(&self, symbol: Symbol) -> Option<&str> {
        self.names.get((symbol.0 as usize).checked_sub(1)?).map(AsRef::as_ref)
    }

    /// Forgets every string but those of `live`; old symbols must be replaced through the answer.
    pub(super) fn retain(&mut self, live: impl Iterator<Item = Symbol>) -> Renamed {
        let mut renamed = vec![Symbol::NULL; self.names.len() + 1];
        let old = std::mem::take(self);
        for symbol in live {
            if let Some(name) = old.name(symbol)
                && renamed[symbol.0 as usize] == Symbol::NULL
            {
                renamed[symbol.0 as usize] = self.intern(name);
            }
        }
        Renamed(renamed)
    }

    /// A `Dictionary(Int32, Utf8)` column of these symbols, its values in order of first use.
    pub(super) fn column(&self, symbols: impl Iterator<Item = Symbol>) -> Result<ArrayRef, ArrowError> {
        let mut codes: FastMap<u32, i32> = FastMap::default();
        let mut values: Vec<&str> = Vec::new();
        let keys: Int32Array = symbols
            .map(|symbol| {
                let name = self.name(symbol)?;
                let next = i32::try_from(values.len()).ok()?;
                let code = *codes.entry(symbol.0).or_insert(next);
                if code == next {
                    values.push(name);
                }
                Some(code)
            })
            .collect();
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(StringArray::from(values)))?))
    }
}

// === impl Coded ===

impl<'a> Coded<'a> {
    pub(super) fn new(text: Text<'a>) -> Self {
        Self { symbols: vec![None; text.cardinality()], text }
    }

    /// The symbol of a row.
    pub(super) fn symbol(&mut self, symbols: &mut Symbols, row: usize) -> Symbol {
        let code = self.text.code(row);
        let Some(known) = usize::try_from(code).ok().and_then(|place| self.symbols.get_mut(place)) else { return Symbol::NULL };
        *known.get_or_insert_with(|| self.text.value(code).map_or(Symbol::NULL, |name| symbols.intern(name)))
    }
}

// === impl Renamed ===

impl Renamed {
    /// The symbol that stands for the same string now.
    pub(super) fn get(&self, symbol: Symbol) -> Symbol {
        self.0.get(symbol.0 as usize).copied().unwrap_or(Symbol::NULL)
    }
}
