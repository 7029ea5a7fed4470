// Shared objects with instrumented code, loaded by a program with the runtime.

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

#include "gtest/gtest.h"
#include "stack/arch.h"
#include "stack/internal/task.h"
#include "stack/mode.h"
#include "stack/morestack.h"
#include "stack/text_range.h"

namespace weft::stack {
namespace {

class Object {
 public:
  Object() : handle_(dlopen("stack/libdso_test_object.so", RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) ADD_FAILURE() << dlerror();
  }
  ~Object() { dlclose(handle_); }

  template <typename F>
  F* Find(const char* name) {
    return reinterpret_cast<F*>(dlsym(handle_, name));
  }

 private:
  void* handle_;
};

TEST(DsoTest, ItsCodeIsKnownWhileItIsLoaded) {
  const void* pc = nullptr;
  for (int i = 0; i < 300; ++i) {  // more often than there is room for ranges
    {
      Object object;
      pc = reinterpret_cast<const void*>(object.Find<int(int)>("weft_test_recurse"));
      ASSERT_NE(pc, nullptr);
      ASSERT_EQ(IsMovableCode(pc), kMayMove) << i;
    }
    ASSERT_FALSE(IsMovableCode(pc)) << i;
  }
}

void Request() { *GuardWord() = kGuardRequest; }

// Nothing else than our __morestack knows what the guard word should be.
TEST(DsoTest, ItsFunctionsCallTheRuntime) {
  if (!kHasGuardWord) GTEST_SKIP() << "no guard words in this build";
  Object object;
  auto* recurse = object.Find<int(int)>("weft_test_recurse");
  auto* take = object.Find<int(size_t, void (*)())>("weft_test_alloca");
  uintptr_t after_recurse = 0;
  uintptr_t after_alloca = 0;
  uintptr_t limit = 0;
  int results = 0;
  RunOnSlot([&] {
    uintptr_t* const guard = GuardWord();
    limit = *guard;
    Request();
    results += recurse(100);
    after_recurse = *guard;
    results += take(100000, Request);
    after_alloca = *guard;
  });
  EXPECT_NE(limit, 0u);
  EXPECT_EQ(after_recurse, limit);
  EXPECT_EQ(after_alloca, limit);
  EXPECT_EQ(results, 100 + 3 + 1);
}

TEST(DsoTest, ItThrowsAndCatchesOnASlot) {
  Object object;
  auto* catches = object.Find<int()>("weft_test_catch");
  int result = 0;
  RunOnSlot([&] { result = catches(); });
  EXPECT_EQ(result, 1);
}

}  // namespace
}  // namespace weft::stack
