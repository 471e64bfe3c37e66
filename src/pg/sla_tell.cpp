// See sla_tell.h.
#include "sla_tell.h"
#include "bulk_rows.h"
#include "events.h"

constexpr int kActColumns = 11;

static void* wider(MemoryContext context, void* items, int* room, Size size) {
    int wanted = Max(64, *room * 2);
    void* made = MemoryContextAlloc(context, size * wanted);
    if (*room > 0)
        memcpy(made, items, size * *room);
    *room = wanted;
    return made;
}

int sla_act(SlaTold* told, const char* kind, const SlaEpisode* episode) {
    if (told->act_count == told->act_room)
        told->acts =
            static_cast<SlaAct*>(wider(told->context, told->acts, &told->act_room, sizeof(SlaAct)));
    TimestampTz now = GetCurrentTimestamp();
    told->acts[told->act_count++] = {kind, now, episode, false};
    ToldEvent event = {
        kind, episode->tenant,     now,           episode->due_at, episode->rep, episode->rule, 0,
        0,    episode->lead_table, episode->pool, episode->lead_id};
    event_told(&event);
    return told->act_count - 1;
}

void sla_alert(SlaTold* told, const SlaAlert* alert) {
    if (told->alert_count == told->alert_room)
        told->alerts = static_cast<SlaAlert*>(
            wider(told->context, told->alerts, &told->alert_room, sizeof(SlaAlert)));
    told->alerts[told->alert_count] = *alert;
    told->alerts[told->alert_count].place = told->alert_count;
    told->alert_count++;
}

static void add_act(BulkRows* rows, const AttrNumber* column, const SlaAct* act) {
    const SlaEpisode* e = act->episode;
    int count = 9;
    BulkValue values[kActColumns] = {
        {column[0], Int64GetDatum(e->tenant)},        {column[1], TimestampTzGetDatum(act->at)},
        {column[2], CStringGetTextDatum(act->kind)},  {column[3], Int32GetDatum(e->lead_table)},
        {column[4], CStringGetTextDatum(e->lead_id)}, {column[5], Int32GetDatum(e->number)},
        {column[6], Int32GetDatum(e->sla)},           {column[7], Int64GetDatum(e->rep)},
        {column[8], TimestampTzGetDatum(e->due_at)}};
    if (e->pool != 0)
        values[count++] = {column[9], Int32GetDatum(e->pool)};
    if (e->rule != 0)
        values[count++] = {column[10], Int64GetDatum(e->rule)};
    (void)bulk_add(rows, values, count);
}

void sla_acts_write(SlaTold* told) {
    static const char* const names[kActColumns] = {"tenant",  "at",      "kind",   "lead_table",
                                                   "lead_id", "episode", "policy", "rep",
                                                   "due_at",  "pool",    "rule"};
    int count = 0;
    for (int i = 0; i < told->act_count; i++)
        count += !told->acts[i].by_episode;
    if (count > 0) {
        AttrNumber column[kActColumns];
        BulkRows rows;
        bulk_begin(&rows, "sla_action", count);
        for (int i = 0; i < kActColumns; i++)
            column[i] = bulk_column(&rows, names[i]);
        for (int i = 0; i < told->act_count; i++)
            if (!told->acts[i].by_episode)
                add_act(&rows, column, &told->acts[i]);
        bulk_end(&rows);
    }
    told->act_count = 0;
}

// --- alerts ---

template <typename Value> static int order_of(Value a, Value b) {
    return a < b ? -1 : (a > b ? 1 : 0);
}

static int same_digest(const SlaAlert* a, const SlaAlert* b) {
    int order = order_of(a->episode->tenant, b->episode->tenant);
    order = order != 0 ? order : strcmp(a->kind, b->kind);
    order = order != 0 ? order : order_of(a->manager, b->manager);
    order = order != 0 ? order : order_of(a->terms->id, b->terms->id);
    return order != 0 ? order : order_of(a->episode->lead_table, b->episode->lead_table);
}

static int compare_alerts(const void* a, const void* b) {
    const SlaAlert* x = static_cast<const SlaAlert*>(a);
    const SlaAlert* y = static_cast<const SlaAlert*>(b);
    int order = same_digest(x, y);
    return order != 0 ? order : order_of(x->place, y->place);
}

static int compare_leads(const void* a, const void* b) {
    return strcmp(static_cast<const SlaAlert*>(a)->episode->lead_id,
                  static_cast<const SlaAlert*>(b)->episode->lead_id);
}

// One alert about all of them.
static const char* digest(SlaAlert* alerts, int count) {
    const char* kind = alerts->kind;
    const char* what = strcmp(kind, "sla_breach") == 0      ? "not touched in time"
                       : strcmp(kind, "reroute_limit") == 0 ? "missed by too many reps"
                                                            : "not touched";
    qsort(alerts, count, sizeof(SlaAlert), compare_leads);
    StringInfoData text;
    initStringInfo(&text);
    appendStringInfo(&text, "%d leads of \"%s\" by policy \"%s\", %s: ", count, alerts->table_name,
                     alerts->terms->name, what);
    for (int i = 0; i < Min(count, 10); i++)
        appendStringInfo(&text, "%s%s", i == 0 ? "" : ", ", alerts[i].episode->lead_id);
    if (count > 10)
        appendStringInfoString(&text, ", ...");
    return text.data;
}

enum AlertColumn {
    A_TENANT,
    A_KIND,
    A_LEAD_TABLE,
    A_MESSAGE,
    A_RAISED_AT,
    A_MANAGER,
    A_LEAD_ID,
    A_REP,
    A_POOL,
    A_RULE,
    kAlertColumns
};

// `of_all`: it is about several leads.
static void add_alert(BulkRows* rows, const AttrNumber* column, const SlaAlert* alert,
                      const char* of_all) {
    const SlaEpisode* e = alert->episode;
    TimestampTz now = GetCurrentTimestamp();
    const char* message = of_all;
    if (of_all == NULL)
        message = psprintf("lead %s of \"%s\": %s", e->lead_id, alert->table_name, alert->message);
    BulkValue values[kAlertColumns] = {{column[A_TENANT], Int64GetDatum(e->tenant)},
                                       {column[A_KIND], CStringGetTextDatum(alert->kind)},
                                       {column[A_LEAD_TABLE], Int32GetDatum(e->lead_table)},
                                       {column[A_MESSAGE], CStringGetTextDatum(message)},
                                       {column[A_RAISED_AT], TimestampTzGetDatum(now)}};
    int count = A_MANAGER;
    auto add = [&](AlertColumn which, bool present, Datum value) {
        if (present)
            values[count++] = {column[which], value};
    };
    add(A_MANAGER, alert->manager != 0, Int64GetDatum(alert->manager));
    if (of_all == NULL) {
        add(A_LEAD_ID, true, CStringGetTextDatum(e->lead_id));
        add(A_REP, e->rep != 0, Int64GetDatum(e->rep));
        add(A_POOL, e->pool != 0, Int32GetDatum(e->pool));
        add(A_RULE, e->rule != 0, Int64GetDatum(e->rule));
    }
    ToldEvent event = {};
    event.kind = alert->kind;
    event.tenant = e->tenant;
    event.at = now;
    event.due_at = DT_NOEND;
    event.manager = alert->manager;
    event.lead_table = e->lead_table;
    event.alert = bulk_add(rows, values, count);
    if (of_all == NULL) {
        event.lead_id = e->lead_id;
        event.rep = e->rep;
        event.pool = e->pool;
        event.rule = e->rule;
    }
    if (!rows->fires)
        event_told(&event);
}

void sla_alerts_write(SlaTold* told) {
    static const char* const names[kAlertColumns] = {
        "tenant",  "kind",    "lead_table", "message", "raised_at",
        "manager", "lead_id", "rep",        "pool",    "rule"};
    if (told->alert_count == 0)
        return;
    qsort(told->alerts, told->alert_count, sizeof(SlaAlert), compare_alerts);
    BulkRows rows;
    AttrNumber column[kAlertColumns];
    bulk_begin(&rows, "alert", told->alert_count);
    for (int i = 0; i < kAlertColumns; i++)
        column[i] = bulk_column(&rows, names[i]);
    for (int i = 0, next; i < told->alert_count; i = next) {
        SlaAlert* first = &told->alerts[i];
        for (next = i + 1; next < told->alert_count; next++)
            if (same_digest(first, &told->alerts[next]) != 0)
                break;
        if (next - i > first->terms->digest_over)
            add_alert(&rows, column, first, digest(first, next - i));
        else
            for (int k = i; k < next; k++)
                add_alert(&rows, column, &told->alerts[k], NULL);
    }
    bulk_end(&rows);
    told->alert_count = 0;
}
