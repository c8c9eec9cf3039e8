//! Numbered places for values, in chunks: growing never moves what is already there, so no single
//! insert pays for the millions before it.

/// Values of one chunk.
const CHUNK_LEN: usize = 512;
/// No free place.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Place<T> {
    Used(T),
    /// The next free place.
    Free(u32),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pool<T> {
    /// All but the last are full-sized; the first grows from nothing.
    chunks: Vec<Vec<Place<T>>>,
    free: u32,
    len: usize,
}

const fn split(id: u32) -> (usize, usize) {
    (id as usize / CHUNK_LEN, id as usize % CHUNK_LEN)
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE, len: 0 }
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes held by the places, used or not.
    pub(super) fn allocated_bytes(&self) -> usize {
        let places: usize = self.chunks.iter().map(Vec::capacity).sum();
        places * size_of::<Place<T>>() + self.chunks.capacity() * size_of::<Vec<Place<T>>>()
    }

    #[inline]
    fn place(&self, id: u32) -> Option<&Place<T>> {
        let (chunk, place) = split(id);
        self.chunks.get(chunk)?.get(place)
    }

    #[inline]
    fn place_mut(&mut self, id: u32) -> Option<&mut Place<T>> {
        let (chunk, place) = split(id);
        self.chunks.get_mut(chunk)?.get_mut(place)
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        match self.place(id)? {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.place_mut(id)? {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    /// Keeps a value and says under which number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let id = self.free;
        if let Some(place) = self.place_mut(id)
            && let Place::Free(next) = *place
        {
            *place = Place::Used(value);
            self.free = next;
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_LEN) {
            let is_first = self.chunks.is_empty();
            self.chunks.push(Vec::with_capacity(if is_first { 1 } else { CHUNK_LEN }));
        }
        let full_chunks = self.chunks.len() - 1;
        let Some(last) = self.chunks.last_mut() else {
            return NONE;
        };
        last.push(Place::Used(value));
        (full_chunks * CHUNK_LEN + last.len() - 1) as u32
    }

    /// Takes a value out; its number will be given to another one.
    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let free = self.free;
        let place = self.place_mut(id)?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let Place::Used(value) = std::mem::replace(place, Place::Free(free)) else {
            return None;
        };
        self.free = id;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn numbers_stay_and_are_used_again() {
        let mut pool = Pool::new();
        let mut model = HashMap::new();
        for value in 0..2_000u32 {
            assert_eq!(model.insert(pool.insert(value), value), None);
        }
        let gone: Vec<u32> = model.keys().copied().filter(|id| id % 3 == 0).collect();
        for id in gone {
            assert_eq!(pool.remove(id), model.remove(&id));
            assert!(pool.get(id).is_none() && pool.remove(id).is_none());
        }
        let bytes = pool.allocated_bytes();
        for value in 5_000..5_600u32 {
            assert_eq!(model.insert(pool.insert(value), value), None);
        }
        assert_eq!(pool.allocated_bytes(), bytes, "free places first");
        assert_eq!(pool.len(), model.len());
        for (&id, value) in &model {
            assert_eq!(pool.get(id), Some(value));
            assert_eq!(pool.get_mut(id).copied(), Some(*value));
        }
        for id in model.into_keys() {
            assert!(pool.remove(id).is_some());
        }
        assert_eq!((pool.len(), pool.allocated_bytes()), (0, 0));
        assert!(pool.get(0).is_none() && pool.get(u32::MAX).is_none());
    }
}
