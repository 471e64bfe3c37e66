// Leads that a restore brings back; see restore.cpp.
#pragma once

#include "shared.h"

// Whether this session is pg_restore, or psql reading the script of pg_dump.
bool restore_running(void);
// Whether the attachment that the trigger names is there already.
bool restore_is_attached(const Trigger* trigger);
// Whether anything is recorded of the lead. Takes SHARE ROW EXCLUSIVE on the record until the
// transaction ends.
bool restore_has_record(const TenantKey* key, int32 lead_table, const char* lead_id);
