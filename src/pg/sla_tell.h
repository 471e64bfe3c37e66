// What people hear of the steps of policies: rows of sla_action, which tell listeners, and alerts.
// They are collected and written together.
#pragma once

#include "leadroute.h"

#include "sla_episode.h"
#include "sla_policy.h"

struct SlaAct {
    const char* kind; // reminder, breached, recycled
    TimestampTz at;
    const SlaEpisode* episode;
    bool by_episode; // the row of the episode, which ends, says it
};

struct SlaAlert {
    const char* kind;
    const SlaEpisode* episode;
    const SlaTerms* terms;
    const char* table_name;
    int64 manager; // 0: none
    const char* message;
    int place; // in the order in which they were raised
};

// Of one batch. Grows in the memory context that it was made in.
struct SlaTold {
    MemoryContext context;
    SlaAct* acts;
    SlaAlert* alerts;
    int act_count, act_room;
    int alert_count, alert_room;
};

// Tells listeners at commit, and notes the row to be written. Gives its place among the acts.
int sla_act(SlaTold* told, const char* kind, const SlaEpisode* episode);
// The message is about the lead: "lead 1 of "leads": " is put before it.
void sla_alert(SlaTold* told, const SlaAlert* alert);
// Write what was collected; the alerts one by one, or for all of one manager, kind and policy
// together where they are many.
void sla_acts_write(SlaTold* told);
void sla_alerts_write(SlaTold* told);
