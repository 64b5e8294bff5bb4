//! Reads what a guest that panicked left in its memory: the other half of `panic_message` in the SDK. Knows no contract.

use wasmtime::{AsContext, Error, WasmCoreDump};

use atomix_model::contract::plain;
use atomix_model::limits;

/// The mark by which the message is found: an address that is a multiple of eight holds this, then the number of bytes, then
/// the text.
const MARK: &[u8; 16] = b"last words here:";

/// The message of the panic that ended in this trap, in one line, if the guest left one.
pub fn from_trap(trap: &Error, store: impl AsContext) -> Option<String> {
    let memories = trap.downcast_ref::<WasmCoreDump>()?.memories();
    memories.iter().find_map(|memory| find(memory.data(&store)))
}

fn find(memory: &[u8]) -> Option<String> {
    let (words, _) = memory.as_chunks::<8>();
    let text = words.windows(3).enumerate().filter(|(_, it)| it[..2].as_flattened() == MARK).find_map(|(at, it)| {
        let len = usize::try_from(u64::from_le_bytes(it[2])).ok()?;
        let bytes = words[at + 3..].as_flattened().get(..len)?;
        (1..=limits::PANIC_MESSAGE_BYTES_MAX).contains(&len).then_some(bytes)
    })?;
    Some(plain(&String::from_utf8_lossy(text)).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(len: u64, text: &[u8]) -> Vec<u8> {
        [&[7; 16], &MARK[..], &len.to_le_bytes(), text, &[0; 8]].concat()
    }

    #[test]
    fn what_a_guest_left_is_read_within_bounds_and_as_one_line() {
        assert_eq!(find(&memory(4, b"gone")).as_deref(), Some("gone"));
        assert_eq!(find(&memory(9, b"a\x1b[2J\n\xff b")).as_deref(), Some("a [2J \u{fffd} b"));
        let most = limits::PANIC_MESSAGE_BYTES_MAX;
        assert_eq!(find(&memory(most as u64, &vec![b'x'; most])).map(|message| message.len()), Some(most));
        assert_eq!(find(&memory(most as u64 + 1, &vec![b'x'; most + 1])), None, "more than the SDK keeps");
        assert_eq!(find(&memory(900, b"short")), None, "a length beyond the end of memory");
        assert_eq!(find(&memory(u64::MAX, b"short")), None);
        assert_eq!(find(&memory(0, b"gone")), None);
        let after_a_constant = [&MARK[..], b"another constant", &memory(4, b"gone")].concat();
        assert_eq!(find(&after_a_constant).as_deref(), Some("gone"));
        assert_eq!(find(&memory(4, b"gone")[1..]), None, "an address that is no multiple of eight");
        assert_eq!(find(MARK), None, "a mark at the end of memory");
        assert_eq!(find(&[]), None);
    }
}
