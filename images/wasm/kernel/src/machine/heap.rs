//! Memory of the kernel and of jobs: one heap. Large requests never take the last of it, so whoever asks
//! for much must take no for an answer, and whoever asks for little gets it.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use sublet_wasm::KEPT_BYTES;
use talc::{ErrOnOom, Span, Talc};

/// What counts as much.
const LARGE_BYTES: usize = 2 << 20;

struct Heap(UnsafeCell<Talc<ErrOnOom>>);

// SAFETY: one processor, and nothing that interrupts uses the heap.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Talc::new(ErrOnOom)));

/// Gives the heap a piece of memory.
///
/// # Safety
/// Nothing else may use it.
pub unsafe fn claim(start: usize, end: usize) {
    // SAFETY: see above; a piece too small to be useful is refused, and that is well.
    let _ = unsafe { (*HEAP.0.get()).claim(Span::new(start as *mut u8, end as *mut u8)) };
}

/// Bytes that nobody has.
pub fn free_bytes() -> usize {
    // SAFETY: one processor; only read.
    unsafe { (*HEAP.0.get()).get_counters().available_bytes }
}

fn may_have(bytes: usize) -> bool {
    bytes < LARGE_BYTES || free_bytes() >= bytes.saturating_add(KEPT_BYTES)
}

// SAFETY: talc keeps to the contract, and what it is not asked for is refused.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !may_have(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's.
        unsafe { (*self.0.get()).malloc(layout) }.map_or(null_mut(), |place| place.as_ptr())
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's: it came from `alloc`, so it is not null.
        unsafe { (*self.0.get()).free(core::ptr::NonNull::new_unchecked(place), layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's, as above.
        unsafe {
            let talc = &mut *self.0.get();
            let known = core::ptr::NonNull::new_unchecked(place);
            if bytes <= layout.size() {
                talc.shrink(known, layout, bytes);
                return place;
            }
            if may_have(bytes - layout.size())
                && let Ok(place) = talc.grow_in_place(known, layout, bytes)
            {
                return place.as_ptr();
            }
            let moved = self.alloc(Layout::from_size_align_unchecked(bytes, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(place, layout.size());
                self.dealloc(place, layout);
            }
            moved
        }
    }
}
