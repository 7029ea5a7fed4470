// The steps of starting a process. Apart from start_error.h, since the child's code knows them too.
#ifndef WEFT_SPAWN_STEP_H_
#define WEFT_SPAWN_STEP_H_

#include <cstdint>

namespace weft::spawn {

// In the order in which they are taken.
enum class Step : uint8_t {
  kNone,
  kArguments,       // refused before anything was done
  kChildStack,      // memory for the child's stack
  kStatusPipe,      // the pipe by which a child reports that does not share memory
  kCgroupOpen,      // the cgroup's list of processes, where the child has to enter by itself
  kClone,           // the new process; index: the namespaces that were asked for, or 0
  kUidMap,          // the user namespace's maps
  kGidMap,          //
  kSession,         // all that follow in the child
  kProcessGroup,    //
  kForeground,      //
  kCgroup,          // entering it, or being made in it
  kPrivateMounts,   // a new mount namespace is detached from its origin
  kFiles,           // index: the child's descriptor
  kCloseOthers,     // close_range(2) is not there, nor is /proc/self/fd
  kControllingTty,  //
  kLimits,          // index: the resource
  kNice,
  kAffinity,
  kChroot,
  kGroups,
  kGid,
  kUid,
  kCapabilities,  // index: the capability
  kDir,
  kNoNewPrivileges,
  kParentDeathSignal,
  kDefaultSignals,  // index: the signal
  kExec,
  kKilled,  // a signal, the index, ended the child before its program began
};

}  // namespace weft::spawn

#endif  // WEFT_SPAWN_STEP_H_
