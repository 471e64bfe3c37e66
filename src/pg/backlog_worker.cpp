// The background worker's part in the backlog: it walks on between its rounds of events, a batch at
// a time, so that neither they nor inserts wait for it.
#include "backlog.h"
#include "notifier.h"

constexpr int kBatch = 20;                              // leads in one transaction
constexpr TimestampTz kLookEvery = 60 * USECS_PER_SEC;  // a day or a shift may have begun
constexpr TimestampTz kRetryAfter = 10 * USECS_PER_SEC; // when a step has failed

static char* work; // what is left of a walk, NULL: none
static TimestampTz next_look;
static TimestampTz not_before;

static TimestampTz next_offer_end(void) {
    return (TimestampTz)pg_atomic_read_u64(&notifier_slot->offer_ends);
}

bool backlog_wanted(void) {
    return leadroute_backlog &&
           (work != NULL || pg_atomic_read_u32(&notifier_slot->backlog) != BACKLOG_NONE ||
            next_offer_end() <= GetCurrentTimestamp());
}

bool backlog_offers_open(void) {
    return leadroute_backlog && next_offer_end() != DT_NOEND;
}

long backlog_pause(long most) {
    if (!backlog_offers_open())
        return most;
    TimestampTz left = next_offer_end() - GetCurrentTimestamp();
    return Min(most, Max(1, (long)(left / 1000) + 1));
}

bool backlog_due(void) {
    TimestampTz now = GetCurrentTimestamp();
    if (!leadroute_backlog || now < not_before)
        return false;
    return backlog_wanted() || now >= next_look;
}

void backlog_round(void) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    SPI_connect();
    // who is told of a lead must not lose it in a crash
    (void)set_config_option("synchronous_commit", "on", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
                            true, 0, false);
    int given = 0;
    char* left;
    if (work == NULL) {
        TimestampTz now = GetCurrentTimestamp();
        bool wanted = now < next_look;
        next_look = now + kLookEvery;
        left = backlog_start(wanted);
        if (!wanted)
            sweep_watch();
    } else {
        left = backlog_step(work, kBatch, &given);
    }
    if (left != NULL)
        left = MemoryContextStrdup(TopMemoryContext, left);
    if (work != NULL)
        pfree(work);
    work = left;
    SPI_finish();
    PopActiveSnapshot();
    CommitTransactionCommand();
}

void backlog_failed(void) {
    if (work != NULL)
        pfree(work);
    work = NULL;
    not_before = GetCurrentTimestamp() + kRetryAfter;
    // from the beginning: what was wanted has been taken note of already
    backlog_unfinished(notifier_slot);
}

void backlog_leave(void) {
    if (work != NULL)
        backlog_unfinished(notifier_slot);
}
