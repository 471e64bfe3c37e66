// Doing what policies say when it is due.
#pragma once

#include "leadroute.h"

// Does the steps that are due, for at most so many leads and beginning no batch after `until`, in
// the tenants that the role may sweep. Commits after each batch: within a non-atomic SPI
// connection. Returns for how many something was done.
int64 sla_sweep(NameData* caller, int64 most, TimestampTz until);
