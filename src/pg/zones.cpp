// The shared list of time zones and today's date in each; see zones.h.
#include "zones.h"

static ZoneList* list;
static ZoneDays today = {0, PG_INT64_MIN, 0, {}};
static pg_tz* loaded[kMaxZones];

Size zones_shmem_size(void) {
    return MAXALIGN(sizeof(ZoneList));
}

void zones_shmem_init(ZoneList* shared, LWLock* lock, bool found) {
    list = shared;
    if (!found) {
        list->lock = lock;
        pg_atomic_init_u32(&list->count, 0);
    }
}

int32 zone_number(const char* name) {
    if (strlen(name) >= kZoneNameSize || pg_tzset(name) == NULL)
        ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION),
                        errmsg("time zone \"%s\" is not known to this server", name),
                        errhint("See the view pg_timezone_names.")));

    LWLockAcquire(list->lock, LW_EXCLUSIVE);
    uint32 count = pg_atomic_read_u32(&list->count);
    uint32 i = 0;
    while (i < count && strcmp(list->name[i], name) != 0)
        i++;
    if (i == count && count < kMaxZones) {
        strlcpy(list->name[count], name, kZoneNameSize);
        pg_write_barrier();
        pg_atomic_write_u32(&list->count, count + 1);
    }
    LWLockRelease(list->lock);
    if (i >= kMaxZones)
        ereport(ERROR, (errcode(ERRCODE_LR_MEMORY_FULL),
                        errmsg("more than %d time zones are in use", kMaxZones),
                        errhint("Name the same zone in the same way for all reps.")));
    return (int32)i;
}

static DateADT date_in_zone(TimestampTz now, pg_tz* zone) {
    struct pg_tm tm;
    fsec_t fsec;
    int offset;
    if (timestamp2tm(now, &offset, &tm, &fsec, NULL, zone) != 0)
        return 0;
    return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}

const ZoneDays* zone_days(TimestampTz now, bool may_load) {
    int64 minute = now / USECS_PER_MINUTE - (now % USECS_PER_MINUTE < 0 ? 1 : 0);
    int32 known = (int32)pg_atomic_read_u32(&list->count);
    today.now = now;
    if (minute == today.minute && known == today.count)
        return &today;
    if (may_load) {
        for (int32 i = 0; i < known; i++) {
            // the server's own cache of zones lives as long as the process
            if (loaded[i] == NULL)
                loaded[i] = pg_tzset(list->name[i]);
            if (loaded[i] == NULL)
                loaded[i] = log_timezone;
        }
    }
    int32 usable = 0;
    while (usable < known && loaded[usable] != NULL) {
        today.day[usable] = date_in_zone(now, loaded[usable]);
        usable++;
    }
    today.count = usable;
    today.minute = minute;
    return &today;
}
