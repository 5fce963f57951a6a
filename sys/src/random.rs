//! Numbers that nobody can foretell, from the kernel.

use std::io;

/// Fills `octets`; waits where the kernel has just started and knows none yet.
///
/// # Errors
/// What the kernel says.
pub fn fill(octets: &mut [u8]) -> io::Result<()> {
    let mut rest = octets;
    while !rest.is_empty() {
        // SAFETY: the kernel writes at most so many octets there, and `rest` is borrowed until it returns.
        let written = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(written) {
            Ok(written) => rest = rest.get_mut(written..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        let (mut one, mut other) = ([0; 300], [0; 300]);
        fill(&mut one).unwrap();
        fill(&mut other).unwrap();
        assert_ne!(one, other);
        assert_ne!(one.last_chunk::<32>().unwrap(), &[0; 32], "to the end");
    }
}
