// Why a lead is not where it was then; see replay.h.
#include "replay.h"
#include "availability.h"

static const char* name_of(const ReplayName* names, int32 count, int64 id) {
    int32 low = 0, high = count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        if (names[middle].id == id)
            return psprintf("\"%s\"", names[middle].name);
        if (names[middle].id < id)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return psprintf("%lld, which is gone", static_cast<long long>(id));
}

static const char* rule_name(const Replay* replay, int64 rule) {
    return name_of(replay->rules, replay->rule_count, rule);
}

static const char* pool_name(const Replay* replay, int32 pool) {
    return pool == 0 ? "\"unmatched\"" : name_of(replay->pools, replay->pool_count, pool);
}

static const char* state_words(core::State state) {
    switch (state) {
    case core::State::rep_cap:
        return "has reached the daily cap";
    case core::State::member_cap:
        return "has reached the daily cap in the pool";
    case core::State::open_cap:
        return "has as many open leads as allowed";
    case core::State::rep_paused:
    case core::State::member_paused:
        return "is paused";
    case core::State::absent:
        return "is absent";
    case core::State::off_shift:
        return "is off shift";
    default:
        return NULL;
    }
}

// What keeps the rep of then from the lead that its own pool gives out: NULL, nothing but the turn.
static const char* absence_words(const Replay* replay, TenantBlock* block, int64 rep, int32 pool,
                                 const ZoneDays* zones) {
    long long id = static_cast<long long>(rep);
    if (block_find_rep(block, rep) < 0)
        return psprintf("rep %lld does not exist any more", id);
    int32 member = block_find_member_of(block, pool, rep);
    if (member < 0)
        return psprintf("rep %lld is no member of pool %s", id, pool_name(replay, pool));
    const char* words = state_words(member_state(block, member, zones));
    return words == NULL ? NULL : psprintf("rep %lld %s", id, words);
}

static const char* other_rule(const Replay* replay, int64 was, int64 is_now) {
    if (is_now == 0)
        return psprintf("no rule matches; then rule %s did", rule_name(replay, was));
    if (was == 0)
        return psprintf("rule %s matches; then none did", rule_name(replay, is_now));
    return psprintf("rule %s matches instead of rule %s", rule_name(replay, is_now),
                    rule_name(replay, was));
}

static const char* other_rep(const Replay* replay, TenantBlock* block, const Life* life,
                             const Past* past, const ZoneDays* zones) {
    if (life->rep == 0)
        return psprintf("nobody takes it, it waits in %s", pool_name(replay, life->pool));
    if (past->rep == 0)
        return "it waited then";
    if (life->pool != past->pool)
        return life->pool == 0 ? "the rule's own rep takes it"
                               : psprintf("pool %s gives it out", pool_name(replay, life->pool));
    const char* away =
        life->pool == 0 ? NULL : absence_words(replay, block, past->rep, life->pool, zones);
    if (away != NULL)
        return away;
    return life->pool == 0 ? "the rule or territory names another rep" : "it is another's turn";
}

const char* replay_reason(const Replay* replay, TenantBlock* block, const Life* life,
                          const ZoneDays* zones) {
    const Past* past = &replay->pasts[life->first];
    if (life->is_known)
        return past->sticky ? "another rep had its contact last"
                            : "its contact is known: the rep who had it takes it";
    if (past->sticky)
        return "its contact is not known, or the rep who had it takes none";
    if (life->rule != past->rule)
        return other_rule(replay, past->rule, life->rule);
    return other_rep(replay, block, life, past, zones);
}
