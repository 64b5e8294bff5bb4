//! The memory of an instance, which lives for one call: lists of free blocks by size over memory that only grows. A fraction of the
//! code of the standard allocator, which counts in a plugin of 200 kB.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;

/// Drops a value, except in an instance: it lives for one call, and its memory is freed as a whole.
pub(crate) fn forget<T>(value: T) {
    if cfg!(target_arch = "wasm32") {
        core::mem::forget(value);
    }
}

/// The memory that blocks are cut from; it grows and never shrinks.
pub trait Heap {
    /// Address of the first byte that may be used.
    fn start(&self) -> usize;
    /// Makes the bytes before `end` usable, and returns the end of those that are; `None` if there is no more memory.
    fn grow_to(&self, end: usize) -> Option<usize>;
}

/// An allocator for one thread: a list of free blocks for each size.
pub struct FreeLists<H> {
    heap: H,
    state: UnsafeCell<State>,
}

struct State {
    /// End of what was cut so far; 0 before the first block.
    end: usize,
    /// End of what the heap made usable.
    limit: usize,
    /// First free block of each size; a free block holds the address of the next one.
    free: [usize; CLASSES],
}

/// Every block is a multiple of so many bytes, and begins at one.
const GRAIN: usize = 16;
/// Sizes up to this are rounded up to a multiple of [`GRAIN`], larger ones to a power of two.
const SMALL: usize = 1024;
const SMALL_CLASSES: usize = SMALL / GRAIN + 1;
const CLASSES: usize = SMALL_CLASSES + usize::BITS as usize - SMALL.ilog2() as usize;

/// Index of the list for blocks of `size` bytes, which are not more than [`SMALL`].
const fn small(size: usize) -> usize {
    size.div_ceil(GRAIN)
}

/// Index of the list for larger ones, and size of its blocks.
fn large(size: usize) -> Option<(usize, usize)> {
    let size = size.checked_next_power_of_two()?;
    Some((SMALL_CLASSES + (size.ilog2() - SMALL.ilog2()) as usize, size))
}

// A component without threads runs one function at a time.
unsafe impl<H> Sync for FreeLists<H> {}

impl<H> FreeLists<H> {
    /// An allocator without blocks yet.
    pub const fn new(heap: H) -> Self {
        Self { heap, state: UnsafeCell::new(State { end: 0, limit: 0, free: [0; CLASSES] }) }
    }
}

impl<H: Heap> FreeLists<H> {
    /// Makes room for a block of `size` bytes; false, and nothing changed, if there is no more memory.
    #[cold]
    #[inline(never)]
    fn extend(&self, state: &mut State, size: usize) -> bool {
        let begin = if state.end == 0 { self.heap.start().next_multiple_of(GRAIN) } else { state.end };
        let Some(limit) = begin.checked_add(size).and_then(|end| self.heap.grow_to(end)) else {
            return false;
        };
        (state.end, state.limit) = (begin, limit);
        true
    }

    /// A block of a list, new if none is free; null if there is no more memory.
    #[inline(always)]
    fn pop(&self, list: usize, size: usize) -> *mut u8 {
        // SAFETY: one thread, and no reference outlives this call.
        let state = unsafe { &mut *self.state.get() };
        let block = state.free[list];
        if block != 0 {
            // SAFETY: a free block is at least GRAIN bytes of ours and holds the address of the next.
            state.free[list] = unsafe { *(block as *const usize) };
            return block as *mut u8;
        }
        if size > state.limit - state.end && !self.extend(state, size) {
            return null_mut();
        }
        let block = state.end;
        state.end += size;
        block as *mut u8
    }

    /// A block that is large, or of an alignment beyond [`GRAIN`]; the latter is cut from a larger one, and never used again.
    #[cold]
    #[inline(never)]
    fn alloc_uncommon(&self, layout: Layout) -> *mut u8 {
        let slack = if layout.align() > GRAIN { layout.align() } else { 0 };
        let Some((list, size)) = layout.size().checked_add(slack).and_then(|size| large(size.max(SMALL + 1))) else {
            return null_mut();
        };
        (self.pop(list, size) as usize).next_multiple_of(layout.align()) as *mut u8 // null stays null
    }

    /// Frees what [`FreeLists::alloc_uncommon`] allocated.
    #[cold]
    #[inline(never)]
    fn dealloc_uncommon(&self, block: *mut u8, layout: Layout) {
        if layout.align() <= GRAIN
            && let Some((list, _)) = large(layout.size())
        {
            self.push(list, block);
        }
    }

    /// Puts a block before the first of a list.
    #[inline(always)]
    fn push(&self, list: usize, block: *mut u8) {
        // SAFETY: one thread; the block is ours, no longer used, and at least GRAIN bytes.
        unsafe {
            let state = &mut *self.state.get();
            *(block as *mut usize) = state.free[list];
            state.free[list] = block as usize;
        }
    }
}

unsafe impl<H: Heap> GlobalAlloc for FreeLists<H> {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match layout.size() <= SMALL && layout.align() <= GRAIN {
            true => self.pop(small(layout.size()), small(layout.size()) * GRAIN),
            false => self.alloc_uncommon(layout),
        }
    }

    #[inline(always)] // a few instructions, where a call costs as many under fuel
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match layout.size() <= SMALL && layout.align() <= GRAIN {
            true => self.push(small(layout.size()), block),
            false => self.dealloc_uncommon(block, layout),
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let fits = layout.align() <= GRAIN
            && match layout.size() <= SMALL {
                true => new_size <= SMALL && small(layout.size()) == small(new_size),
                false => new_size > SMALL && large(layout.size()) == large(new_size),
            };
        if fits {
            return block;
        }
        // SAFETY: the caller's promises are those of `alloc` and `dealloc`; the two blocks do not overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// How linear memory grows, in 32 bits also where a test runs on more.
#[cfg(any(test, all(target_arch = "wasm32", feature = "allocator")))]
mod pages {
    /// Bytes of a page of linear memory.
    pub const PAGE: u32 = 65536;
    /// Pages of a step: each costs the host a system call.
    const STEP: u32 = 8;
    /// Pages that 32 bits can address.
    const PAGES_MAX: u32 = 65536;

    /// How many pages to ask for, so that the bytes before `end` are there; `have` are there already.
    pub fn step(have: u32, end: u32) -> u32 {
        let missing = end.div_ceil(PAGE).saturating_sub(have);
        missing.next_multiple_of(STEP).min(PAGES_MAX - have).max(missing)
    }

    /// Where so many pages end. 4 GiB are one byte more than 32 bits count: the last grain is left unused.
    pub fn end_of(pages: u32) -> u32 {
        pages.checked_mul(PAGE).unwrap_or(u32::MAX - super::GRAIN as u32 + 1)
    }
}

/// The linear memory above what the linker placed.
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod linear {
    use super::pages::{end_of, step};
    use super::{FreeLists, Heap};

    #[global_allocator]
    static MEMORY: FreeLists<Linear> = FreeLists::new(Linear);

    struct Linear;

    impl Heap for Linear {
        fn start(&self) -> usize {
            unsafe extern "C" {
                static __heap_base: u8;
            }
            &raw const __heap_base as usize
        }

        fn grow_to(&self, end: usize) -> Option<usize> {
            let have = core::arch::wasm32::memory_size(0);
            let pages = step(have as u32, end as u32);
            let grown = pages == 0 || core::arch::wasm32::memory_grow(0, pages as usize) != usize::MAX;
            grown.then(|| end_of(have as u32 + pages) as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pages::{PAGE, end_of, step};
    use super::*;

    /// A heap that is a part of this process's memory.
    struct Buffer(Vec<u128>);

    impl Buffer {
        fn bytes(&self) -> usize {
            self.0.len() * size_of::<u128>()
        }
    }

    impl Heap for Buffer {
        fn start(&self) -> usize {
            self.0.as_ptr() as usize
        }

        fn grow_to(&self, end: usize) -> Option<usize> {
            let limit = self.start() + self.bytes();
            (end <= limit).then_some(limit)
        }
    }

    #[test]
    fn memory_grows_up_to_four_gib_and_returns_where_it_ends() {
        for (have, end, pages) in [
            (10, 10 * PAGE, 0),
            (10, 10 * PAGE + 1, 8),
            (10, 18 * PAGE + 1, 16),
            (65_530, u32::MAX, 6), // a whole step would be refused
            (65_535, 65_535 * PAGE + 1, 1),
            (65_536, u32::MAX, 0),
        ] {
            assert_eq!(step(have, end), pages, "{have} pages, up to {end}");
            assert!(end_of(have + pages) >= end & !(GRAIN as u32 - 1), "{have} and {pages} pages end before {end}");
        }
        assert_eq!(end_of(18), 18 * PAGE);
        assert_eq!(end_of(65_536), 0xffff_fff0, "not 0, which is where 32 bits begin again");
    }

    #[test]
    fn blocks_never_overlap_keep_their_bytes_and_are_used_again() {
        let memory = FreeLists::new(Buffer(vec![0; 64 * 1024]));
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for round in 0..20_000_usize {
            let mark = round as u8;
            let full = |block: *mut u8, size: usize, mark: u8| (0..size).all(|i| unsafe { *block.add(i) } == mark);
            match random(3) {
                0 if !live.is_empty() => {
                    let (block, layout, mark) = live.swap_remove(random(live.len()));
                    assert!(full(block, layout.size(), mark), "a freed block of {layout:?} was overwritten");
                    unsafe { memory.dealloc(block, layout) };
                }
                1 if !live.is_empty() => {
                    let at = random(live.len());
                    let (block, layout, mark) = live[at];
                    let size = 1 + random(3000);
                    let new = unsafe { memory.realloc(block, layout, size) };
                    assert!(!new.is_null() && full(new, size.min(layout.size()), mark), "{layout:?} lost bytes at {size}");
                    unsafe { new.write_bytes(mark, size) };
                    live[at] = (new, Layout::from_size_align(size, layout.align()).expect("a layout"), mark);
                }
                _ if live.len() < 100 => {
                    let layout = Layout::from_size_align(1 + random(3000), 1 << random(5)).expect("a layout");
                    let block = unsafe { memory.alloc(layout) };
                    assert!(!block.is_null(), "memory ran out: free blocks are not used again");
                    assert_eq!(block as usize % layout.align(), 0);
                    unsafe { block.write_bytes(mark, layout.size()) };
                    live.push((block, layout, mark));
                }
                _ => {}
            }
        }
        let large = Layout::from_size_align(100, 4096).expect("a layout");
        assert_eq!(unsafe { memory.alloc(large) } as usize % 4096, 0);
        assert!(unsafe { memory.alloc(Layout::from_size_align(1 << 30, 8).expect("a layout")) }.is_null());
    }
}
