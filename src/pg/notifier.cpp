// The life of the background worker that sends a database's events. Whoever gathers an event asks
// for it, if it does not run: in the transaction, where that may take time and fails without harm.
// It leaves when nothing has happened for a while and no open transaction has events, and at once
// when it is asked to (notifier_leave.cpp). After an error it goes on; after a crash of the server
// the postmaster starts it again.
#include "notifier.h"
#include "backlog.h"
#include "shared.h"

extern "C" {
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/wait_event.h"
#include <dlfcn.h>
#include <signal.h>
}

constexpr long kShortPause = 2; // ms that make a batch
constexpr long kLongPause = 10; // under load
constexpr int kBusyBatch = 16;  // events in a round that are load
constexpr long kLongestRetry = 10000;
constexpr int kRestartSeconds = 5;
constexpr TimestampTz kStartPatience = 30 * USECS_PER_SEC;
constexpr TimestampTz kLongestBackOff = 60 * USECS_PER_SEC;

EventSlot* notifier_slot;
static volatile sig_atomic_t terminated;

// --- asking for it ---

// The library as it was loaded; its plain name where that is too long a path.
static void own_library(char* name, Size size) {
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(own_library), &info) == 0 || info.dli_fname == NULL ||
        strlcpy(name, info.dli_fname, size) >= size)
        strlcpy(name, "leadroute", size);
}

static bool register_worker(void) {
    BackgroundWorker worker = {};
    snprintf(worker.bgw_name, BGW_MAXLEN, "leadroute notifier for database %u", MyDatabaseId);
    strlcpy(worker.bgw_type, "leadroute notifier", BGW_MAXLEN);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = kRestartSeconds;
    own_library(worker.bgw_library_name, sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "leadroute_notifier_main", BGW_MAXLEN);
    worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
    uint64 incarnation = events_incarnation();
    memcpy(worker.bgw_extra, &incarnation, sizeof(incarnation));
    return RegisterDynamicBackgroundWorker(&worker, NULL);
}

void notifier_start(EventSlot* slot) {
    TimestampTz now = GetCurrentTimestamp();
    if (IsBinaryUpgrade || now < slot->next_try)
        return;
    LWLockAcquire(events_lock(), LW_EXCLUSIVE);
    uint32 state = pg_atomic_read_u32(&slot->state);
    bool ask = now >= slot->next_try && now >= slot->barred_until &&
               (state == WORKER_NONE ||
                (state == WORKER_STARTING && now - slot->asked_at > kStartPatience));
    if (ask) {
        slot->asked_at = now;
        slot->next_try = now + USECS_PER_SEC;
        pg_atomic_write_u32(&slot->state, WORKER_STARTING);
    }
    LWLockRelease(events_lock());
    if (!ask || register_worker())
        return;
    LWLockAcquire(events_lock(), LW_EXCLUSIVE);
    slot->failures = Min(slot->failures + 1, 6);
    slot->next_try = now + Min(USECS_PER_SEC << slot->failures, kLongestBackOff);
    if (pg_atomic_read_u32(&slot->state) == WORKER_STARTING)
        pg_atomic_write_u32(&slot->state, WORKER_NONE);
    LWLockRelease(events_lock());
}

// --- its life ---

static void on_terminate(SIGNAL_ARGS) {
    (void)postgres_signal_arg;
    int saved = errno;
    terminated = 1;
    SetLatch(MyLatch);
    errno = saved;
}

static bool wanted_away(void) {
    return terminated != 0 || pg_atomic_read_u32(&notifier_slot->leave) != 0;
}

static void let_go(void) {
    notifier_slot->pid = 0;
    notifier_slot->latch = NULL;
    pg_atomic_write_u32(&notifier_slot->idle, 0);
    pg_atomic_write_u32(&notifier_slot->leave, 0);
    pg_atomic_write_u32(&notifier_slot->state, WORKER_NONE);
}

static void on_exit(int, Datum) {
    backlog_leave();
    LWLockAcquire(events_lock(), LW_EXCLUSIVE);
    if (notifier_slot->pid == MyProcPid)
        let_go();
    LWLockRelease(events_lock());
}

// Takes the database's slot. False: this worker is not wanted. One that survived a crash of the
// server finds new shared memory, where there is no slot yet.
static bool take_slot(Oid database) {
    uint64 incarnation;
    memcpy(&incarnation, MyBgworkerEntry->bgw_extra, sizeof(incarnation));
    LWLockAcquire(events_lock(), LW_EXCLUSIVE);
    EventSlot* slot = event_slot_find(database, incarnation != events_incarnation());
    bool mine = slot != NULL && slot->pid == 0 && slot->barred_until < GetCurrentTimestamp();
    if (mine) {
        notifier_slot = slot;
        slot->pid = MyProcPid;
        slot->latch = MyLatch;
        slot->failures = 0;
        slot->next_try = 0;
        if (!slot->caught_up)
            pg_atomic_exchange_u32(&slot->lost, 1);
        slot->caught_up = false;
        pg_atomic_write_u32(&slot->leave, 0);
        pg_atomic_write_u32(&slot->state, WORKER_RUNNING);
    } else if (slot != NULL && slot->pid == 0) {
        pg_atomic_write_u32(&slot->state, WORKER_NONE);
    }
    LWLockRelease(events_lock());
    return mine;
}

static void start(Oid database) {
    pqsignal(SIGTERM, on_terminate);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    if (!take_slot(database))
        proc_exit(0); // the postmaster forgets it
    before_shmem_exit(on_exit, (Datum)0);
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
    static const char* const settings[][2] = {{"search_path", "pg_catalog, pg_temp"},
                                              {"synchronous_commit", "off"},
                                              {"lock_timeout", "500ms"},
                                              {"statement_timeout", "0"},
                                              {"default_transaction_read_only", "off"},
                                              {"default_transaction_isolation", "read committed"},
                                              {"idle_in_transaction_session_timeout", "0"}};
    for (const auto& setting : settings)
        SetConfigOption(setting[0], setting[1], PGC_SUSET, PGC_S_OVERRIDE);
}

static void pause_for(long milliseconds, bool may_be_woken) {
    int events = WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | (may_be_woken ? WL_LATCH_SET : 0);
    (void)WaitLatch(MyLatch, events, milliseconds, PG_WAIT_EXTENSION);
    if (may_be_woken)
        ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

static void recover(MemoryContext caller) {
    HOLD_INTERRUPTS();
    // somebody else's NOTIFY, or LOCK, holds us up: nothing to tell
    if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
        EmitErrorReport();
    AbortCurrentTransaction();
    MemoryContextSwitchTo(caller);
    FlushErrorState();
    RESUME_INTERRUPTS();
}

// A round that survives its errors. -2: it failed.
static int try_round(bool store) {
    volatile int sent = 0;
    MemoryContext caller = CurrentMemoryContext;
    PG_TRY();
    { sent = notifier_round(store); }
    PG_CATCH();
    {
        recover(caller);
        notifier_round_failed();
        sent = -2;
    }
    PG_END_TRY();
    return sent;
}

// The same of a batch of the backlog.
static void try_backlog(void) {
    MemoryContext caller = CurrentMemoryContext;
    PG_TRY();
    { backlog_round(); }
    PG_CATCH();
    {
        recover(caller);
        backlog_failed();
    }
    PG_END_TRY();
}

// Leaves if no transaction has events on their way; who comes later starts the next worker.
static bool may_leave(void) {
    bool leave = false;
    LWLockAcquire(events_lock(), LW_EXCLUSIVE);
    pg_atomic_write_u32(&notifier_slot->state, WORKER_NONE);
    pg_memory_barrier(); // against event_slot_pin(), which counts its user before it looks here
    if (pg_atomic_read_u32(&notifier_slot->users) == 0 && !notifier_work_waits() &&
        !backlog_wanted() && !backlog_offers_open()) {
        notifier_slot->caught_up = true;
        let_go();
        leave = true;
    } else {
        pg_atomic_write_u32(&notifier_slot->state, WORKER_RUNNING);
    }
    LWLockRelease(events_lock());
    return leave;
}

// Waits for work. False: there has been none for long enough.
static bool wait_for_work(TimestampTz quiet_since) {
    pg_atomic_write_u32(&notifier_slot->idle, 1);
    pg_memory_barrier();
    if (!notifier_work_waits() && !backlog_due() && !wanted_away())
        pause_for(backlog_pause(1000), true);
    pg_atomic_write_u32(&notifier_slot->idle, 0);
    if (notifier_work_waits() || backlog_due() || wanted_away())
        return true;
    TimestampTz quiet = GetCurrentTimestamp() - quiet_since;
    return quiet < leadroute_notify_idle * USECS_PER_SEC;
}

static void run(void) {
    TimestampTz quiet_since = GetCurrentTimestamp();
    int failures = 0;
    while (!wanted_away()) {
        if (backlog_due()) {
            if (notifier_is_orphan())
                return;
            try_backlog();
            quiet_since = GetCurrentTimestamp();
            pause_for(kShortPause, false);
        }
        if (!notifier_work_waits() && !notifier_store_due(false)) {
            if (wait_for_work(quiet_since))
                continue;
            if (notifier_is_orphan() ||
                ((!notifier_store_due(true) || try_round(true) >= 0) && may_leave()))
                return;
            quiet_since = GetCurrentTimestamp();
            continue;
        }
        pause_for(kShortPause, false);
        int sent = try_round(notifier_store_due(false));
        if (sent == -2) {
            if (notifier_is_orphan())
                return;
            failures = Min(failures + 1, 6);
            pause_for(Min(100L << failures, kLongestRetry), true);
            continue;
        }
        failures = 0;
        if (sent > 0)
            quiet_since = GetCurrentTimestamp();
        if (sent >= kBusyBatch)
            pause_for(kLongPause - kShortPause, false);
    }
    // asked to go: what is there is sent, if that is possible at once
    if (!notifier_is_orphan() && try_round(true) >= 0)
        (void)may_leave();
}

extern "C" {
PGDLLEXPORT void leadroute_notifier_main(Datum database);

void leadroute_notifier_main(Datum database) {
    start(DatumGetObjectId(database));
    run();
    proc_exit(0); // not to be started again before somebody asks
}
}
