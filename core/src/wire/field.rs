//! Named fields of fixed-size headers.

/// `LENGTH` octets of a header from octet `AT` on.
///
/// That the field lies inside its header is checked when the program is compiled, so reading one costs a load.
#[derive(Clone, Copy)]
pub(crate) struct Field<const AT: usize, const LENGTH: usize>;

impl<const AT: usize, const LENGTH: usize> Field<AT, LENGTH> {
    /// The field's octets.
    #[inline]
    pub(crate) fn of<const HEADER: usize>(self, header: &[u8; HEADER]) -> [u8; LENGTH] {
        const { assert!(AT + LENGTH <= HEADER, "a field lies inside its header") };
        header.split_at(AT).1.first_chunk().map_or([0; LENGTH], |field| *field)
    }

    /// Writes the field.
    #[inline]
    pub(crate) fn set<const HEADER: usize>(self, header: &mut [u8; HEADER], value: [u8; LENGTH]) {
        const { assert!(AT + LENGTH <= HEADER, "a field lies inside its header") };
        if let Some(field) = header.split_at_mut(AT).1.first_chunk_mut() {
            *field = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_where_its_name_says() {
        let mut header = [1, 2, 3, 4, 5, 6];
        assert_eq!(Field::<2, 2>.of(&header), [3, 4]);
        Field::<4, 2>.set(&mut header, [8, 9]);
        assert_eq!(header, [1, 2, 3, 4, 8, 9]);
    }
}
