// Alerts: rows that a person must see. raise_alert() is in leadroute.h, for all.
#pragma once

#include "shared.h"

// Whose alerts follow: says where it is known what was alerted a moment ago.
void alert_tenant(const TenantKey* key);
