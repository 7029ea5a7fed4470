#include "stack/escape_pass/pinning_cases.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::escape_pass {
namespace {

#define CASE __attribute__((noinline)) void

uintptr_t Bits(const Node* node) { return reinterpret_cast<uintptr_t>(node); }

void AwaitDone(const Node& node) {
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

// The instructions one by one. The wait is written out where the node must not be passed on.

CASE ExchangesPointer() {
  Node node;
  published.slot.exchange(&node);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE ExchangesPointerForFormer() {
  Node node;
  Node* former = published.slot.exchange(&node);
  if (former != nullptr) former->value = 1;
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE ExchangesTagged() {
  Node node;
  published.word.exchange(Bits(&node) | 1);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE ComparesAndExchanges() {
  Node node;
  Node* expected = nullptr;
  published.slot.compare_exchange_strong(expected, &node);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE ComparesAndExchangesTagged() {
  Node node;
  uintptr_t old = published.word.load();
  while (!published.word.compare_exchange_weak(old, Bits(&node) | 1)) {
  }
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE AddsAddress() {
  Node node;
  published.word.fetch_add(Bits(&node));
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE SubtractsNegatedAddress() {
  Node node;
  published.word.fetch_sub(0 - Bits(&node));
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE OrsAddress() {
  Node node;
  published.word.fetch_or(Bits(&node));
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE XorsAddress() {
  Node node;
  published.word.fetch_xor(Bits(&node));
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE AndsAddress() {
  Node node;
  published.word.store(~uintptr_t{0});
  published.word.fetch_and(Bits(&node));
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE RaisesToAddress() {
  Node node;
  auto* word = reinterpret_cast<uintptr_t*>(&published.word);
#if defined(__clang__)
  __atomic_fetch_max(word, Bits(&node), __ATOMIC_SEQ_CST);
#else
  __atomic_fetch_or(word, Bits(&node), __ATOMIC_SEQ_CST);
#endif
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE SyncComparesAndSwaps() {
  Node node;
  (void)__sync_bool_compare_and_swap(&published.plain, nullptr, &node);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE SyncTestsAndSets() {
  Node node;
  (void)__sync_lock_test_and_set(&published.plain, &node);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE StoresInAsmGoto() {
  Node node;
  asm goto("movq %0, %1\n\tjmp %l2" : : "r"(&node), "m"(published.plain) : "memory" : out);
  published.plain = nullptr;  // not reached
out:
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

__attribute__((noinline, target("cx16"))) void ComparesAndSwapsWide() {
  Node node;
  const auto wide = (static_cast<unsigned __int128>(Bits(&node)) << 64) | 1;
  (void)__sync_bool_compare_and_swap(&published.wide, 0, wide);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

// Stores, which SafeStack sees.

CASE StoresVolatile() {
  Node node;
  published.always = &node;
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE StoresWithRelease() {
  Node node;
  published.slot.store(&node, std::memory_order_release);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

// Computed from the address.

CASE PublishesShifted() {
  Node node;
  __atomic_fetch_or(&published.shifted, Bits(&node) << 16, __ATOMIC_SEQ_CST);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE PublishesElementOfArray() {
  Node nodes[4];
  volatile int which = 2;
  Node* expected = nullptr;
  Node& node = nodes[which];
  published.slot.compare_exchange_strong(expected, &node);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE PublishesOneOfTwo() {
  Node one;
  Node other;
  volatile bool which = true;
  Node* chosen = which ? &other : &one;
  Node* expected = nullptr;
  published.slot.compare_exchange_strong(expected, chosen);
  while (one.done.load(std::memory_order_relaxed) + other.done.load(std::memory_order_relaxed) ==
         0) {
    Park();
  }
}

CASE PublishesFromLoop() {
  Node nodes[3];
  volatile int rounds = 2;
  Node* node = nodes;
  for (int i = rounds; i > 0; --i) ++node;
  published.word.fetch_or(Bits(node) | 4);
  while (nodes[2].done.load(std::memory_order_acquire) == 0) Park();
}

struct Trivial {
  char bytes[64];
  Node* next;
  alignas(Node) char node[sizeof(Node)];
};

// Passed on the caller's stack: an LLVM `byval` argument.
CASE PublishesByValueOf(Trivial trivial) {
  auto* node = reinterpret_cast<Node*>(trivial.node);
  Node* expected = nullptr;
  published.slot.compare_exchange_strong(expected, node);
  while (__atomic_load_n(reinterpret_cast<int*>(&node->done), __ATOMIC_ACQUIRE) == 0) Park();
}

void PublishesArgument() { PublishesByValueOf(Trivial{}); }

CASE PublishesFromLambda() {
  Node node;
  auto publish = [&node] { published.slot.exchange(&node); };
  publish();
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

CASE PublishesFromOtherFile() {
  Node node;
  PublishElsewhere(&node);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

template <typename T>
CASE PublishesFromTemplate() {
  T node;
  T* expected = nullptr;
  published.slot.compare_exchange_strong(expected, &node);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

// What programs do with them.

// A word for one waiter: a semaphore, a channel's rendezvous.
CASE WaitsInOneSlot() {
  Node node;
  node.value = 7;
  Node* expected = nullptr;
  if (!published.slot.compare_exchange_strong(expected, &node)) return;
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

// A lock's word: a waiter and flag bits.
CASE WaitsInTaggedWord() {
  Node node;
  uintptr_t old = published.word.load() | 1;
  published.word.store(old);
  if ((old & 1) != 0 && published.word.compare_exchange_strong(old, Bits(&node) | 2)) {
    while (node.done.load(std::memory_order_acquire) == 0) Park();
  }
}

CASE WaitsInTaggedList() {
  Node node;
  uintptr_t old = published.word.load();
  do {
    node.next = reinterpret_cast<Node*>(old & ~uintptr_t{3});
  } while (!published.word.compare_exchange_weak(old, Bits(&node) | 2));
  AwaitDone(node);
}

CASE PushesOnTreiberStack() {
  Node node;
  Node* head = published.slot.load();
  do {
    node.next = head;
  } while (!published.slot.compare_exchange_weak(head, &node));
  AwaitDone(node);
}

CASE QueuesAsMcs() {
  Node node;
  Node* predecessor = published.slot.exchange(&node);
  if (predecessor != nullptr) predecessor->next = &node;
  AwaitDone(node);
}

CASE QueuesAsClh() {
  Node node;
  Node* predecessor = published.slot.exchange(&node);
  if (predecessor != nullptr) AwaitDone(*predecessor);
  while (node.done.load(std::memory_order_acquire) == 0) Park();
}

}  // namespace

const bool kWithEscapePass = WEFT_WITH_ESCAPE_PASS;
#if defined(__OPTIMIZE__)
const bool kOptimized = true;
#else
const bool kOptimized = false;
#endif

const PinningCase kPinningCases[] = {
    {"ExchangesPointer", ExchangesPointer, true},
    {"ExchangesPointerForFormer", ExchangesPointerForFormer, false},
    {"ExchangesTagged", ExchangesTagged, true},
    {"ComparesAndExchanges", ComparesAndExchanges, true},
    {"ComparesAndExchangesTagged", ComparesAndExchangesTagged, true},
    {"AddsAddress", AddsAddress, true},
    {"SubtractsNegatedAddress", SubtractsNegatedAddress, true},
    {"OrsAddress", OrsAddress, true},
    {"XorsAddress", XorsAddress, true},
    {"AndsAddress", AndsAddress, true},
    {"RaisesToAddress", RaisesToAddress, true},
    {"SyncComparesAndSwaps", SyncComparesAndSwaps, true},
    {"SyncTestsAndSets", SyncTestsAndSets, true},
    {"StoresInAsmGoto", StoresInAsmGoto, true},
    {"ComparesAndSwapsWide", ComparesAndSwapsWide, true},
    {"StoresVolatile", StoresVolatile, false},
    {"StoresWithRelease", StoresWithRelease, false},
    {"PublishesShifted", PublishesShifted, true},
    {"PublishesElementOfArray", PublishesElementOfArray, false},
    {"PublishesOneOfTwo", PublishesOneOfTwo, true},
    {"PublishesFromLoop", PublishesFromLoop, true},
    {"PublishesArgument", PublishesArgument, true},
    {"PublishesFromLambda", PublishesFromLambda, true},
    {"PublishesFromOtherFile", PublishesFromOtherFile, false},
    {"PublishesFromTemplate", PublishesFromTemplate<Node>, true},
    {"WaitsInOneSlot", WaitsInOneSlot, true},
    {"WaitsInTaggedWord", WaitsInTaggedWord, true},
    {"WaitsInTaggedList", WaitsInTaggedList, false},
    {"PushesOnTreiberStack", PushesOnTreiberStack, false},
    {"QueuesAsMcs", QueuesAsMcs, false},
    {"QueuesAsClh", QueuesAsClh, false},
};
const size_t kPinningCaseCount = sizeof(kPinningCases) / sizeof(kPinningCases[0]);

namespace {

__attribute__((noinline)) const char* CountsInLocal() {
  int count = 0;
  volatile int more = 1;
  __atomic_fetch_add(&count, more, __ATOMIC_RELAXED);
  const char* const pinned = PinnedPointer();
  int expected = 1;
  __atomic_compare_exchange_n(&count, &expected, 2, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return __atomic_load_n(&count, __ATOMIC_RELAXED) == 2 ? pinned : nullptr;
}

__attribute__((noinline)) const char* MayUnwind(void (*function)()) {
  struct AtExit {
    ~AtExit() { published.shifted = 0; }
  };
  const AtExit at_exit;
  function();
  return PinnedPointer();
}

__attribute__((noinline)) void MayNotUnwind(void (*function)()) noexcept {
  struct AtExit {
    ~AtExit() { published.shifted = 0; }
  };
  const AtExit at_exit;
  function();
}

__attribute__((noinline)) const char* WithVariableSize(int size) {
  const char* const pinned = PinnedPointer();
  if (size > 0) {
    auto* bytes = static_cast<char*>(__builtin_alloca(static_cast<size_t>(size)));
    asm volatile("" : : "r"(bytes) : "memory");
  }
  return pinned;
}

}  // namespace

ptrdiff_t PinnedByFunctionThatMayBeUnwoundInto() {
  return PinnedPointer() - MayUnwind([] { published.shifted = 0; });
}

void CallWithoutUnwinding(void (*function)()) { MayNotUnwind(function); }

ptrdiff_t PinnedByFunctionWithVariableSize() {
  volatile int none = 0;
  return PinnedPointer() - WithVariableSize(none);
}

ptrdiff_t PinnedByLocalCounter() { return PinnedPointer() - CountsInLocal(); }

}  // namespace weft::escape_pass
