//! Statements about many rows at once.
//!
//! A statement's text depends on its number of rows, and each connection prepares every text once. Rows therefore come
//! in chunks of powers of two, which keeps the number of texts small.

/// Splits the rows into the fewest chunks whose sizes are powers of two.
pub(crate) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = 1_usize << rows.len().checked_ilog2()?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

/// Parameters for `rows` rows: `($1, $2), ($3, $4)`.
pub(crate) fn values(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let parameters: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", parameters.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Parameters for `keys` keys: `($1, $2)`.
pub(crate) fn list(keys: usize) -> String {
    values(1, keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_every_row_once_in_order_and_are_powers_of_two() {
        for count in 0..70_u32 {
            let rows: Vec<u32> = (0..count).collect();
            let chunks: Vec<&[u32]> = chunks(&rows).collect();
            assert_eq!(chunks.concat(), rows);
            assert!(chunks.iter().all(|chunk| chunk.len().is_power_of_two()), "{count}");
            assert_eq!(chunks.len(), count.count_ones() as usize);
        }
    }

    #[test]
    fn parameters_are_numbered_through() {
        assert_eq!(values(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
