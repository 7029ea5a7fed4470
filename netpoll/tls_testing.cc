#include "netpoll/tls_testing.h"

#include "absl/base/config.h"

#ifdef ABSL_HAVE_THREAD_SANITIZER
// OpenSSL counts the users of a session by atomic operations that are not instrumented: to
// ThreadSanitizer nothing is between a use of the session and its end on another thread.
extern "C" const char* __tsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libcrypto.so\ncalled_from_lib:libssl.so\n";
}
#endif
