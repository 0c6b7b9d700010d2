//! Writes a gzip stream of stored blocks (RFC 1952, RFC 1951 3.2.4). A client must unpack it, but we need no
//! compression.

/// Maximum bytes in a stored block.
const BLOCK: usize = 0xffff;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Magic, deflate, no flags, no time, no hint, unknown system.
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut blocks = bytes.chunks(BLOCK).peekable();
    if blocks.peek().is_none() {
        block(&mut packed, &[], true);
    }
    while let Some(chunk) = blocks.next() {
        block(&mut packed, chunk, blocks.peek().is_none());
    }
    packed.extend(crc32(bytes).to_le_bytes());
    // The length modulo 2³², as the format requires.
    packed.extend((bytes.len() as u64).to_le_bytes().first_chunk::<4>().expect("eight bytes"));
    packed
}

fn block(packed: &mut Vec<u8>, bytes: &[u8], is_last: bool) {
    let length = u16::try_from(bytes.len()).expect("no longer than a block");
    packed.push(u8::from(is_last));
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(bytes);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_stream_has_its_head_its_bytes_and_its_tail() {
        let packed = gzip(b"{}");
        assert_eq!(&packed[..3], [0x1f, 0x8b, 8]);
        assert_eq!(&packed[10..17], [1, 2, 0, 0xfd, 0xff, b'{', b'}']);
        assert_eq!(&packed[packed.len() - 4..], [2, 0, 0, 0]);
        assert_eq!(gzip(&[7; 70_000]).len(), 10 + 2 * 5 + 70_000 + 8);
    }
}
