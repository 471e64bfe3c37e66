// See rule_chains.h.
#include "rule_chains.h"

extern "C" {
#include "common/hashfn.h"
}

struct Chain {
    uint64 hash;
    int first;
    int last;
};

struct RuleChains {
    HTAB* chains;
    int* next; // by rule
    int* unkeyed;
    int unkeyed_count;
    RuleKey columns[2 * MaxHeapAttributeNumber];
    int column_count;
};

static int* numbers(int capacity) {
    return static_cast<int*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * (capacity + 1)));
}

RuleChains* rule_chains_begin(int capacity) {
    RuleChains* chains = static_cast<RuleChains*>(palloc0(sizeof(RuleChains)));
    HASHCTL control = {};
    control.keysize = sizeof(Chain::hash);
    control.entrysize = sizeof(Chain);
    control.hcxt = CurrentMemoryContext;
    chains->chains = hash_create("leadroute rules by key", 1024, &control,
                                 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    chains->next = numbers(capacity);
    chains->unkeyed = numbers(capacity);
    return chains;
}

RuleKey rule_chains_key(Expr* planned) {
    Expr* rest;
    return rule_key_find(planned, &rest);
}

static uint64 hash_of(const RuleKey* key) {
    uint64 hash = key->kind == RuleKeyKind::number
                      ? key->number
                      : hash_bytes_extended(reinterpret_cast<const unsigned char*>(key->text),
                                            key->length, 1);
    return hash_combine64(hash, static_cast<uint64>(key->column));
}

static void note_column(RuleChains* chains, const RuleKey* key) {
    for (int i = 0; i < chains->column_count; i++)
        if (chains->columns[i].column == key->column && chains->columns[i].kind == key->kind)
            return;
    chains->columns[chains->column_count++] = *key;
}

void rule_chains_add(RuleChains* chains, const RuleKey* key, int rule) {
    chains->next[rule] = -1;
    if (key->kind == RuleKeyKind::none) {
        chains->unkeyed[chains->unkeyed_count++] = rule;
        return;
    }
    note_column(chains, key);
    uint64 hash = hash_of(key);
    bool known;
    Chain* chain = static_cast<Chain*>(hash_search(chains->chains, &hash, HASH_ENTER, &known));
    if (known)
        chains->next[chain->last] = rule;
    else
        chain->first = rule;
    chain->last = rule;
}

int rule_chains_first(const RuleChains* chains, const RuleKey* key) {
    uint64 hash = hash_of(key);
    const Chain* chain =
        static_cast<const Chain*>(hash_search(chains->chains, &hash, HASH_FIND, NULL));
    return chain == NULL ? -1 : chain->first;
}

int rule_chains_next(const RuleChains* chains, int rule) {
    return chains->next[rule];
}

const int* rule_chains_unkeyed(const RuleChains* chains, int* count) {
    *count = chains->unkeyed_count;
    return chains->unkeyed;
}

const RuleKey* rule_chains_columns(const RuleChains* chains, int* count) {
    *count = chains->column_count;
    return chains->columns;
}
