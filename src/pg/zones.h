// Time zones of reps: a list in shared memory (so that a block can name a zone by a number) and
// this backend's knowledge of what day it is in each, computed once a minute. No zone changes its
// offset within a minute of UTC, so that is exact.
#pragma once

#include "leadroute.h"

constexpr int kMaxZones = 1024;
constexpr int kZoneNameSize = 64;

struct ZoneList {
    LWLock* lock; // taken to add a zone
    pg_atomic_uint32 count;
    char name[kMaxZones][kZoneNameSize];
};

// What day it is at `minute` (minutes since 2000-01-01 UTC) in the zones [0, count).
struct ZoneDays {
    TimestampTz now; // the instant itself
    int64 minute;
    int32 count;
    DateADT day[kMaxZones];
};

void zones_shmem_init(ZoneList* list, LWLock* lock, bool found);
Size zones_shmem_size(void);

// The zone's number, added when new. Errors: LR013 when the list is full, LR005 for no such zone.
int32 zone_number(const char* name);

// The days at `now`. With may_load false (callbacks) zones not met before are left out.
const ZoneDays* zone_days(TimestampTz now, bool may_load);

inline bool zone_known(const ZoneDays* days, int32 zone) {
    return zone < days->count;
}
