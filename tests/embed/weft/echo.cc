// A hundred clients ask an echo server in the same process, each end of each connection being a
// goroutine.
#include <cstdio>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "chan/chan.h"
#include "netpoll/net.h"
#include "sched/goroutine.h"

namespace {

constexpr int kClients = 100;

void Echo(const weft::Conn& connection) {
  char buffer[256];
  while (true) {
    absl::StatusOr<size_t> n = connection.Read(absl::MakeSpan(buffer));
    if (!n.ok() || *n == 0) return;
    if (!connection.Write(absl::string_view(buffer, *n)).ok()) return;
  }
}

bool AskOnce(absl::string_view address, int client) {
  absl::StatusOr<weft::Conn> connection = weft::Dial("tcp", address);
  if (!connection.ok()) return false;
  const std::string question = absl::StrCat("client ", client, "\n");
  std::string answer(question.size(), '\0');
  return connection->Write(question).ok() &&
         connection->ReadFull(absl::MakeSpan(&answer[0], answer.size())).ok() && answer == question;
}

}  // namespace

int main() {
  return weft::Main([] {
    absl::StatusOr<weft::Listener> listener = weft::Listen("tcp", "127.0.0.1:0");
    if (!listener.ok()) return 1;
    weft::Go([listener = *listener] {
      while (true) {
        absl::StatusOr<weft::Conn> connection = listener.Accept();
        if (!connection.ok()) return;
        weft::Go([connection = *connection] { Echo(connection); });
      }
    });

    const std::string address = listener->addr().ToString();
    weft::Chan<bool> done(0);
    for (int i = 0; i < kClients; ++i) {
      weft::Go([&address, done, i] { done.Send(AskOnce(address, i)); });
    }
    int echoes = 0;
    for (int i = 0; i < kClients; ++i) echoes += done.Recv().value_or(false) ? 1 : 0;
    std::printf("%d echoes\n", echoes);
    return 0;
  });
}
