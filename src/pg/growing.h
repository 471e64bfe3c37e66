// A list in memory that outlives the transaction, so that the callbacks at its end may read it.
#pragma once

#include "leadroute.h"

template <typename Item> struct Growing {
    Item* items;
    int count;
    int room;
    // Room for one more, in memory that outlives the transaction.
    void grow() {
        if (count < room)
            return;
        int wanted = Max(16, room * 2);
        Size bytes = sizeof(Item) * wanted;
        items = static_cast<Item*>(items == NULL ? MemoryContextAlloc(TopMemoryContext, bytes)
                                                 : repalloc_huge(items, bytes));
        room = wanted;
    }
};
