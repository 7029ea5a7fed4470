// A profile that is there already, in the form that is wanted.
#ifndef WEFT_DEBUG_INTERNAL_WRITE_PROFILE_H_
#define WEFT_DEBUG_INTERNAL_WRITE_PROFILE_H_

#include "debug/profile.h"
#include "debug/profile_data.h"

namespace weft::debug {

void WriteData(const ProfileData& data, ProfileSink sink, ProfileFormat format);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_INTERNAL_WRITE_PROFILE_H_
