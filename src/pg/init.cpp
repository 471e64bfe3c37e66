// Where the library is loaded: settings, shared memory, callbacks, hooks.
#include "leadroute.h"

#include "events.h"
#include "frame.h"
#include "lead_table.h"
#include "placement.h"
#include "settings.h"
#include "shared.h"
#include "transaction.h"

extern "C" {
PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void _PG_init(void) {
    settings_init();
    transaction_init();
    frame_init();
    notifier_init();
    // otherwise CREATE EXTENSION works, leads may wait, and what needs the counters says LR001
    if (process_shared_preload_libraries_in_progress)
        shared_init();
}
}
