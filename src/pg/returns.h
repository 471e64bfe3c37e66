// What comes back to a rep when this transaction commits: an open lead that has ended, a turn that
// was credited back.
#pragma once

#include "shared.h"

// Notes one for the transaction, before the row is changed: from then on the tenant stays in
// memory, so that no loader meets the row half way. False: the tenant cannot be in memory (it is
// full, or only this transaction's own configuration is at hand).
bool return_note(const TenantKey* key, const Held* held, int64* ticket);
