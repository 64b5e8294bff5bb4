//! Writes the message of a panic into the guest's memory, where the host finds it after the trap. A plugin imports nothing,
//! so there is no function to report it to. Knows no contract.
//!
//! The form, for guests in other languages: at an address that is a multiple of eight, [`MARK`], then the number of bytes, then the
//! text in UTF-8, of at most [`BYTES_MAX`]. Numbers are little-endian. The mark is written last; a constant of it that also stands in
//! memory is no message, unless a number within these bounds follows it.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use std::panic::{PanicHookInfo, set_hook};

/// By what the host finds the message: "last wor" and "ds here:" in ASCII.
const MARK: [u64; 2] = [u64::from_le_bytes(*b"last wor"), u64::from_le_bytes(*b"ds here:")];
/// Most bytes of a message, as many as the host reads.
const BYTES_MAX: usize = 1024;

#[repr(C)]
struct Message {
    mark: [u64; 2],
    len: u64,
    text: [u8; BYTES_MAX],
}

struct Slot(UnsafeCell<Message>);

// A component without threads runs one function at a time.
unsafe impl Sync for Slot {}

static SLOT: Slot = Slot(UnsafeCell::new(Message { mark: [0; 2], len: 0, text: [0; BYTES_MAX] }));

/// Makes each panic of this call write its message; the first thing that a function does that a component exports.
pub fn install() {
    set_hook(Box::new(write)); // a function has no size: nothing is allocated
}

fn write(panic: &PanicHookInfo<'_>) {
    // SAFETY: one thread, and a panic while this runs ends the instance.
    let message = unsafe { &mut *SLOT.0.get() };
    message.len = 0;
    let text = panic.payload_as_str().unwrap_or("it panicked");
    let _ = match panic.location() {
        Some(place) => write!(message, "{text} ({}:{})", place.file(), place.line()),
        None => message.write_str(text),
    };
    for (slot, half) in message.mark.iter_mut().zip(MARK) {
        // SAFETY: it is ours. Volatile, so that the compiler neither drops what nothing here reads nor copies it from a
        // constant.
        unsafe { core::ptr::write_volatile(slot, half) };
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.text.get_mut(self.len as usize..).unwrap_or_default();
        let fits = free.len().min(text.len());
        free[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits as u64;
        Ok(())
    }
}
