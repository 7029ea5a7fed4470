#include "debug/internal/trace_recorder.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "sched/clock.h"
#include "sched/internal/lock.h"
#include "sched/internal/thread.h"
#include "sched/sysmon.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

namespace weft::debug::internal {

using weft::internal::Event;
using weft::internal::EventHead;
using weft::internal::EventPort;
using weft::internal::Lock;
using weft::internal::LockGuard;

namespace {

constexpr size_t kBlockBytes = 16 << 10;
constexpr size_t kChunkBytes = 1 << 20;  // of blocks, from the system
constexpr int64_t kWindowNanos = 10'000'000;

struct Record {
  uint64_t ticks;
  uint64_t g;
  uint64_t other;
  EventHead head;
};
static_assert(sizeof(Record) == 32);

struct alignas(64) Block {
  static constexpr uint32_t kRecords = (kBlockBytes - 64) / sizeof(Record);

  Block* next;
  int64_t m;
  uint64_t ended;               // when it was full
  std::atomic<uint32_t> count;  // of whole records
  alignas(64) Record records[kRecords];
};
static_assert(sizeof(Block) == kBlockBytes);

// What an EventPort's thread writes with. Never freed.
//
// Whether it is in a gap, by who changes it:
//
//   whole     the port's bit is on, not paused
//     | the thread, in EndShare(): gap_since, kGapBegin, bit off, paused
//     v
//   paused    `left`, `window_began` and `resumed` are Refill()'s
//     | Refill(), when the window is over: resumed, bit on, not paused
//     v
//   resumed   the thread's again
//     | the thread, at its next event: kGapEnd, gap_since 0
//     v
//   whole
//
// No event is missing outside of [kGapBegin, kGapEnd]: the bit is off only within, as it goes off
// after the one is written, and on before the thread can see that it is to write the other. And a
// gap is missed by no trace: gap_since is set before kGapBegin and cleared after kGapEnd, and
// Collect() reads it before the thread's events.
struct Writer {
  // --- the thread's own ---
  std::atomic<Block*> block{nullptr};  // changed under the recorder's lock
  bool resumed = false;
  uint64_t left = 0;  // events until it looks at the clock's window
  uint64_t window_began = 0;
  // When the gap began that the thread is in, as far as its events tell; 0: in none. For Collect().
  std::atomic<uint64_t> gap_since{0};
  // --- shared with Refill() ---
  std::atomic<bool> paused{false};  // release and acquire hand the above over, and back
  std::atomic<uint32_t> recording{0};
  EventPort* port = nullptr;
  Writer* next = nullptr;
};

struct Blocks {
  Block* head = nullptr;
  Block* tail = nullptr;
};

struct ClockPair {
  uint64_t ticks = 0;
  int64_t nanos = 0;
};

// Trivially destructible: goroutines run on while the program's statics are destroyed.
struct Recorder {
  std::atomic<bool> on{false};
  std::atomic<uint32_t> recording{0};  // how many there have been
  std::atomic<uint64_t> share{0};      // events of a thread in a window; 0: no limit
  std::atomic<uint64_t> window_ticks{0};
  std::atomic<bool> counter_is_steady{false};
  std::atomic<bool> has_duty{false};
  ClockPair began;
  int64_t began_at = 0;  // nanoseconds of the wall's clock

  Lock lock;
  Block* free ABSL_GUARDED_BY(lock) = nullptr;
  Blocks full ABSL_GUARDED_BY(lock);  // the oldest first
  size_t used ABSL_GUARDED_BY(lock) = 0;
  size_t most ABSL_GUARDED_BY(lock) = 0;
  uint64_t lost_until ABSL_GUARDED_BY(lock) = 0;  // nothing up to here is whole
  std::atomic<Writer*> writers{nullptr};
  char* writer_memory ABSL_GUARDED_BY(lock) = nullptr;
  size_t writer_bytes ABSL_GUARDED_BY(lock) = 0;
};
constinit Recorder recorder;

bool HasSteadyCounter() {
#if defined(__x86_64__)
  // "Invariant TSC": at one rate in all states of the processor.
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
#else
  return false;
#endif
}

uint64_t Ticks() {
#if defined(__x86_64__)
  if (recorder.counter_is_steady.load(std::memory_order_relaxed)) [[likely]] {
    _mm_lfence();
    return __rdtsc();
  }
#endif
  return static_cast<uint64_t>(Instant::Now().nanos());
}

// Both clocks at one moment: of several tries the one that was interrupted least.
ClockPair BothClocks() {
  ClockPair best;
  uint64_t least = std::numeric_limits<uint64_t>::max();
  for (int i = 0; i < 9; ++i) {
    const uint64_t before = Ticks();
    const int64_t nanos = Instant::Now().nanos();
    const uint64_t took = Ticks() - before;
    if (took < least) {
      least = took;
      best = {before + took / 2, nanos};
    }
  }
  return best;
}

void Push(Blocks& blocks, Block* block) {
  block->next = nullptr;
  (blocks.tail == nullptr ? blocks.head : blocks.tail->next) = block;
  blocks.tail = block;
}

Block* Pop(Blocks& blocks) {
  Block* block = blocks.head;
  if (block == nullptr) return nullptr;
  blocks.head = block->next;
  if (blocks.head == nullptr) blocks.tail = nullptr;
  return block;
}

// Memory that is not the program's allocator's: a thread may be in the middle of that.
Block* NewBlock() ABSL_EXCLUSIVE_LOCKS_REQUIRED(recorder.lock) {
  if (recorder.free == nullptr) {
    void* chunk =
        mmap(nullptr, kChunkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED) return nullptr;
    for (size_t at = kChunkBytes; at != 0; at -= kBlockBytes) {
      auto* block = reinterpret_cast<Block*>(static_cast<char*>(chunk) + at - kBlockBytes);
      block->next = recorder.free;
      recorder.free = block;
    }
  }
  Block* block = recorder.free;
  recorder.free = block->next;
  ++recorder.used;
  return block;
}

void FreeBlock(Block* block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(recorder.lock) {
  // All but the first page goes back to the system.
  madvise(reinterpret_cast<char*>(block) + 4096, kBlockBytes - 4096, MADV_DONTNEED);
  block->next = recorder.free;
  recorder.free = block;
  --recorder.used;
}

void Lose(const Block* block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(recorder.lock) {
  recorder.lost_until = std::max(recorder.lost_until, block->ended);
}

// Null: no memory is to be had, and the event is lost.
__attribute__((noinline)) Block* NextBlock(Writer* writer, int64_t m) noexcept {
  LockGuard guard(recorder.lock);
  if (Block* full = writer->block.load(std::memory_order_relaxed)) {
    full->ended = Ticks();
    Push(recorder.full, full);
  }
  Block* block = nullptr;
  // One more than there may be while somebody else has the queue in hand.
  if (recorder.used < recorder.most || recorder.full.head == nullptr) block = NewBlock();
  if (block == nullptr && (block = Pop(recorder.full)) != nullptr) Lose(block);
  if (block == nullptr) {
    recorder.lost_until = Ticks();
  } else {
    block->m = m;
    block->count.store(0, std::memory_order_relaxed);
  }
  writer->block.store(block, std::memory_order_relaxed);
  return block;
}

__attribute__((noinline)) Writer* NewWriter(EventPort& port) noexcept {
  LockGuard guard(recorder.lock);
  if (recorder.writer_bytes < sizeof(Writer)) {
    void* memory =
        mmap(nullptr, kBlockBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    recorder.writer_memory = static_cast<char*>(memory);
    recorder.writer_bytes = kBlockBytes;
  }
  auto* writer = ::new (static_cast<void*>(recorder.writer_memory)) Writer;
  recorder.writer_memory += sizeof(Writer);
  recorder.writer_bytes -= sizeof(Writer);
  writer->port = &port;
  writer->next = recorder.writers.load(std::memory_order_relaxed);
  // Release: who walks the list finds it whole.
  recorder.writers.store(writer, std::memory_order_release);
  port.sink_data.store(writer, std::memory_order_relaxed);
  return writer;
}

// Room for `count` records in a row; null: there is none.
Record* Reserve(Writer* writer, uint32_t count) {
  Block* block = writer->block.load(std::memory_order_relaxed);
  if (block == nullptr || block->count.load(std::memory_order_relaxed) + count > Block::kRecords)
      [[unlikely]] {
    block = NextBlock(writer, writer->port->m);
    if (block == nullptr) return nullptr;
  }
  return block->records + block->count.load(std::memory_order_relaxed);
}

void Publish(Writer* writer, uint32_t count) {
  Block* block = writer->block.load(std::memory_order_relaxed);
  // Release: whoever collects sees whole records.
  block->count.store(block->count.load(std::memory_order_relaxed) + count,
                     std::memory_order_release);
}

void Append(Writer* writer, uint64_t ticks, EventHead head, uint64_t g, uint64_t other) {
  Record* record = Reserve(writer, 1);
  if (record == nullptr) return;
  *record = {ticks, g, other, head};
  Publish(writer, 1);
}

void BeginRecording(Writer* writer, uint64_t now) {
  writer->resumed = false;
  writer->left = recorder.share.load(std::memory_order_relaxed);
  writer->window_began = now;
  writer->gap_since.store(0, std::memory_order_relaxed);
  writer->paused.store(false, std::memory_order_relaxed);
  // Last, for Refill().
  writer->recording.store(recorder.recording.load(std::memory_order_relaxed),
                          std::memory_order_release);
}

// The thread has used up its share.
__attribute__((noinline)) void EndShare(Writer* writer, uint64_t now) {
  if (now - writer->window_began >= recorder.window_ticks.load(std::memory_order_relaxed)) {
    writer->window_began = now;
    writer->left = recorder.share.load(std::memory_order_relaxed);
    return;
  }
  writer->gap_since.store(now, std::memory_order_relaxed);
  Append(writer, now, {.event = Event::kGapBegin}, 0, 0);
  // Under the lock, as the port may have been turned on again by a new recording.
  LockGuard guard(recorder.lock);
  if (writer->recording.load(std::memory_order_relaxed) !=
      recorder.recording.load(std::memory_order_relaxed)) {
    return;
  }
  writer->port->wanted.fetch_and(~EventPort::kBySink, std::memory_order_relaxed);
  // Release: hands the window over to Refill().
  writer->paused.store(true, std::memory_order_release);
}

// The port's writer, if the event is to be recorded; else null.
Writer* WriterFor(EventPort& port, Event event, uint64_t now) {
  auto* writer = static_cast<Writer*>(port.sink_data.load(std::memory_order_relaxed));
  if (writer == nullptr) [[unlikely]] {
    writer = NewWriter(port);
    if (writer == nullptr) return nullptr;
  }
  if (writer->recording.load(std::memory_order_relaxed) !=
      recorder.recording.load(std::memory_order_relaxed)) [[unlikely]] {
    BeginRecording(writer, now);
  }
  // Acquire: pairs with the release in Refill(), which has written the thread's share.
  if (writer->paused.load(std::memory_order_acquire)) [[unlikely]]
    return FrequentEvent(event) ? nullptr : writer;
  if (writer->resumed) [[unlikely]] {
    writer->resumed = false;
    Append(writer, now, {.event = Event::kGapEnd}, 0, 0);
    // Release: who sees this, sees that event.
    writer->gap_since.store(0, std::memory_order_release);
  }
  return writer;
}

void CountEvent(Writer* writer, uint64_t now) {
  // In this order: while it is paused the share is Refill()'s. Acquire, as in WriterFor().
  if (writer->paused.load(std::memory_order_acquire) || writer->left == 0) return;
  if (--writer->left == 0) [[unlikely]]
    EndShare(writer, now);
}

void AppendText(Writer* writer, uint64_t ticks, EventHead head, uint64_t g, uint64_t other,
                absl::string_view text) {
  text = text.substr(0, kMaxTextBytes);
  const auto more = static_cast<uint32_t>((text.size() + sizeof(Record) - 1) / sizeof(Record));
  Record* record = Reserve(writer, 1 + more);
  if (record == nullptr) return;
  head.arg = static_cast<uint8_t>(more);
  head.turn = static_cast<uint16_t>(text.size());
  *record = {ticks, g, other, head};
  std::memcpy(static_cast<void*>(record + 1), text.data(), text.size());
  Publish(writer, 1 + more);
}

void Sink(EventPort& port, EventHead head, uint64_t g, uint64_t other) noexcept {
  if (!recorder.on.load(std::memory_order_relaxed)) [[unlikely]]
    return;
  const uint64_t now = Ticks();
  Writer* writer = WriterFor(port, head.event, now);
  if (writer == nullptr) return;
  if (head.event == Event::kName) {
    AppendText(writer, now, head, g, 0, weft::internal::NameIn(other));
  } else {
    Append(writer, now, head, g, other);
  }
  CountEvent(writer, now);
}

// The monitor's duty: a new share for those whose window is over.
bool Refill(Instant) {
  if (!recorder.on.load(std::memory_order_relaxed) ||
      recorder.share.load(std::memory_order_relaxed) == 0) {
    return false;
  }
  LockGuard guard(recorder.lock);
  // Once more, as StopRecorder() has it: no port is to be on when that is over.
  if (!recorder.on.load(std::memory_order_relaxed)) return false;
  const uint64_t now = Ticks();
  const uint32_t recording = recorder.recording.load(std::memory_order_relaxed);
  for (Writer* w = recorder.writers.load(std::memory_order_acquire); w != nullptr; w = w->next) {
    // Acquire: pairs with the release in EndShare(), and with that in BeginRecording().
    if (w->recording.load(std::memory_order_acquire) != recording ||
        !w->paused.load(std::memory_order_acquire) ||
        now - w->window_began < recorder.window_ticks.load(std::memory_order_relaxed)) {
      continue;
    }
    w->resumed = true;
    w->window_began = now;
    w->left = recorder.share.load(std::memory_order_relaxed);
    // First: from when it finds that it is not paused, which it says is the end of its gap, the
    // thread is to tell of everything.
    w->port->wanted.fetch_or(EventPort::kBySink, std::memory_order_relaxed);
    w->paused.store(false, std::memory_order_release);
  }
  return false;
}

// Whether it is followed by `arg` records that hold a text of `turn` bytes.
bool HasText(Event event) {
  return event == Event::kName || (event >= Event::kRegionBegin && event <= Event::kLog);
}

struct OfThread {
  Record record;
  int64_t m;
  int64_t text = -1;
  size_t place = 0;
};

// Those of a block that lie in (after, until].
void Gather(const Block& block, uint64_t after, uint64_t until, std::vector<OfThread>& out,
            std::vector<std::string>& texts) {
  // Acquire: pairs with the release in Publish().
  const uint32_t count = block.count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    const Record& record = block.records[i];
    int64_t text = -1;
    uint32_t more = 0;
    if (HasText(record.head.event)) more = record.head.arg;
    if (record.ticks > after && record.ticks <= until) {
      if (HasText(record.head.event)) {
        text = static_cast<int64_t>(texts.size());
        texts.emplace_back(reinterpret_cast<const char*>(&record + 1), record.head.turn);
      }
      out.push_back({record, block.m, text});
    }
    i += more;
  }
}

struct OpenGap {
  int64_t m;
  uint64_t since;
};

// In front of a trace's events, which are in their order: the gaps that began before it, of those
// that are `open` when it is collected, and of those that end in it.
void NoteEarlierGaps(std::vector<OfThread>& all, const std::vector<OpenGap>& open, uint64_t after) {
  std::set<int64_t> earlier;
  for (const OpenGap& gap : open) {
    if (gap.since <= after) earlier.insert(gap.m);
  }
  std::set<int64_t> seen;
  for (const OfThread& event : all) {
    const Event kind = event.record.head.event;
    if (kind != Event::kGapBegin && kind != Event::kGapEnd) continue;
    if (seen.insert(event.m).second && kind == Event::kGapEnd) earlier.insert(event.m);
  }
  std::vector<OfThread> begins;
  for (const int64_t m : earlier) {
    begins.push_back({{after, 0, 0, {.event = Event::kGapBegin}}, m});
  }
  all.insert(all.begin(), begins.begin(), begins.end());
}

// Those of full blocks in the queue's order, then those that are being filled.
RecordedTrace Collect(int64_t last, Blocks& taken, bool may_block) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  RecordedTrace trace;
  const ClockPair end = BothClocks();
  size_t writers = 0;
  for (Writer* w = recorder.writers.load(std::memory_order_acquire); w != nullptr; w = w->next) {
    ++writers;
  }
  std::vector<OfThread> present;
  std::vector<std::string> present_texts;
  // What is collected under the lock needs no memory then, short of texts.
  present.reserve(writers * Block::kRecords);
  std::vector<OpenGap> open;
  open.reserve(writers);

  if (may_block) {
    weft::internal::EnterRuntime();
    recorder.lock.Acquire();
  } else if (!recorder.lock.TryAcquire()) {
    return trace;
  }
  taken = std::exchange(recorder.full, Blocks());
  uint64_t after = std::max(recorder.began.ticks, recorder.lost_until);
  trace.beginning_lost = recorder.lost_until > recorder.began.ticks;
  for (Writer* w = recorder.writers.load(std::memory_order_acquire); w != nullptr; w = w->next) {
    // Before its events. Acquire: if it is over, its end is among them.
    const uint64_t gap_since = w->gap_since.load(std::memory_order_acquire);
    if (gap_since != 0 && w->recording.load(std::memory_order_acquire) ==
                              recorder.recording.load(std::memory_order_relaxed)) {
      open.push_back({w->port->m, gap_since});
    }
    if (const Block* block = w->block.load(std::memory_order_relaxed)) {
      Gather(*block, after, end.ticks, present, present_texts);
    }
  }
  recorder.lock.Release();
  if (may_block) weft::internal::LeaveRuntime();

  const double nanos_per_tick = static_cast<double>(end.nanos - recorder.began.nanos) /
                                static_cast<double>(end.ticks - recorder.began.ticks);
  if (static_cast<double>(last) < static_cast<double>(end.ticks - after) * nanos_per_tick) {
    after = end.ticks - static_cast<uint64_t>(static_cast<double>(last) / nanos_per_tick);
    trace.beginning_lost = true;
  }
  std::vector<OfThread> all;
  for (const Block* block = taken.head; block != nullptr; block = block->next) {
    Gather(*block, after, end.ticks, all, trace.texts);
  }
  const auto texts_before = static_cast<int64_t>(trace.texts.size());
  for (OfThread& event : present) {
    if (event.text >= 0) event.text += texts_before;
    if (event.record.ticks > after) all.push_back(event);
  }
  std::move(present_texts.begin(), present_texts.end(), std::back_inserter(trace.texts));
  // Those of one thread keep their order.
  for (size_t i = 0; i < all.size(); ++i) all[i].place = i;
  std::sort(all.begin(), all.end(), [](const OfThread& a, const OfThread& b) {
    return std::tie(a.record.ticks, a.place) < std::tie(b.record.ticks, b.place);
  });
  NoteEarlierGaps(all, open, after);
  const auto nanos_since_after = [&](uint64_t ticks) {
    return static_cast<int64_t>(static_cast<double>(ticks - after) * nanos_per_tick);
  };
  trace.events.reserve(all.size());
  for (const OfThread& event : all) {
    trace.events.push_back({.at = nanos_since_after(event.record.ticks),
                            .m = event.m,
                            .head = event.record.head,
                            .g = event.record.g,
                            .other = event.record.other,
                            .text = event.text});
  }
  trace.length = nanos_since_after(end.ticks);
  trace.began = absl::FromUnixNanos(
      recorder.began_at +
      static_cast<int64_t>(static_cast<double>(after - recorder.began.ticks) * nanos_per_tick));
  return trace;
}

}  // namespace

void StartRecorder(const RecorderLimits& limits) {
  if (!recorder.has_duty.exchange(true, std::memory_order_relaxed)) {
    RegisterMonitorDuty({.name = "trace", .run = Refill});
  }
  recorder.counter_is_steady.store(HasSteadyCounter(), std::memory_order_relaxed);
  const weft::internal::RuntimeSection section;
  {
    LockGuard guard(recorder.lock);
    recorder.most = std::max(limits.bytes / kBlockBytes, size_t{4});
    recorder.lost_until = 0;
    recorder.recording.fetch_add(1, std::memory_order_relaxed);
  }
  recorder.share.store(
      limits.events_per_second == 0
          ? 0
          : std::max<uint64_t>(limits.events_per_second * kWindowNanos / 1'000'000'000, 1),
      std::memory_order_relaxed);
  // As many as in 10 ms, or about that: the counters of today's processors run at 2 to 4 GHz.
  recorder.window_ticks.store(kWindowNanos * (HasSteadyCounter() ? 3 : 1),
                              std::memory_order_relaxed);
  recorder.on.store(true, std::memory_order_release);
  weft::internal::StartEvents(Sink);
  // From here on all threads record everything.
  recorder.began = BothClocks();
  recorder.began_at = absl::GetCurrentTimeNanos();
}

namespace {

void TurnOff() {
  const weft::internal::RuntimeSection section;
  // Under the lock, for Refill().
  LockGuard guard(recorder.lock);
  recorder.on.store(false, std::memory_order_relaxed);
}

}  // namespace

RecordedTrace CollectRecorded(int64_t last) {
  Blocks taken;
  RecordedTrace trace = Collect(last, taken, /*may_block=*/true);
  const weft::internal::RuntimeSection section;
  LockGuard guard(recorder.lock);
  if (taken.head != nullptr) {
    // Back in front of what was filled meanwhile.
    taken.tail->next = recorder.full.head;
    if (recorder.full.tail == nullptr) recorder.full.tail = taken.tail;
    recorder.full.head = taken.head;
  }
  while (recorder.used > recorder.most) {
    Block* oldest = Pop(recorder.full);
    if (oldest == nullptr) break;
    Lose(oldest);
    FreeBlock(oldest);
  }
  return trace;
}

RecordedTrace StopRecorder(int64_t last) {
  TurnOff();
  weft::internal::StopEvents();
  Blocks taken;
  RecordedTrace trace = Collect(last, taken, /*may_block=*/true);
  const weft::internal::RuntimeSection section;
  LockGuard guard(recorder.lock);
  while (Block* block = Pop(taken)) FreeBlock(block);
  return trace;
}

RecordedTrace LastRecorded(int64_t last) {
  Blocks taken;
  return Collect(last, taken, /*may_block=*/false);
}

void RecordText(Event event, uint64_t other, absl::string_view text) {
  if ((weft::internal::events_wanted.load(std::memory_order_relaxed) & EventPort::kBySink) == 0) {
    return;
  }
  weft::internal::WithEventPort([&](EventPort& port, EventHead head, uint64_t g) {
    if (!recorder.on.load(std::memory_order_relaxed)) return;
    const uint64_t now = Ticks();
    Writer* writer = WriterFor(port, event, now);
    if (writer == nullptr) return;
    head.event = event;
    AppendText(writer, now, head, g, other, text);
    CountEvent(writer, now);
  });
}

}  // namespace weft::debug::internal
