# leadroute: a PostgreSQL extension built with PGXS.
#
#   make, make install, make installcheck   as for any extension. installcheck needs a running server
#                                           with shared_preload_libraries = 'leadroute'
#   make demo                               installs what is missing, shows the product
#   make test                               installs what is missing, runs everything
#   make test-lint test-unit test-regress test-isolation test-pgtap test-tap [T=file ...]
#   make soak | sanitize | bench            the long runs; see test/run/
#
# demo, test and the other runs never install leadroute into the system: they stage it in a
# temporary directory and start servers of their own there.

EXTENSION = leadroute
EXTVERSION = 1.0
MODULE_big = leadroute

# The PostgreSQL side is every file of src/pg. The core is listed, and a check holds the list equal
# to the one in CMakeLists.txt, which builds the core without PostgreSQL.
PG_SRCS = $(sort $(wildcard src/pg/*.cpp))
CORE_SRCS = src/core/business_time.cpp src/core/due_time.cpp src/core/fair_queue.cpp src/core/fair_queue_among.cpp src/core/filter.cpp src/core/formula.cpp src/core/formula_words.cpp src/core/formula_write.cpp src/core/explanation.cpp src/core/ledger.cpp src/core/places.cpp src/core/rule_index.cpp src/core/rule_index_build.cpp src/core/rule_index_tree.cpp src/core/rule_predicate.cpp
OBJS = $(PG_SRCS:.cpp=.o) $(CORE_SRCS:.cpp=.o)

# The install script is these pieces of sql/, joined in this order: state before functions, grants
# last.
SQL_PIECES = header key_order tables tables_record tables_territory tables_access tables_activity tables_availability tables_methods tables_sla tables_sweep access history route checks references lead_table sticky reroute score attach restore configuration territory availability words sla_words why rule_history explain replay check_rules manual release available activity credit performance value sla sla_advice offers backlog sla_sweep claim_cursor claim views sla_view acknowledge verify schedule sweep_health health ddl events import_salesforce import_salesforce_rules document document_import grants
SQL_SCRIPT = sql/$(EXTENSION)--$(EXTVERSION).sql
DATA_built = $(SQL_SCRIPT)
DATA = $(wildcard sql/upgrade/$(EXTENSION)--*--*.sql)

SQL_UNLISTED = $(filter-out $(SQL_PIECES:%=sql/%.sql) $(SQL_SCRIPT),$(wildcard sql/*.sql))
ifneq ($(SQL_UNLISTED),)
$(error $(SQL_UNLISTED) not listed in SQL_PIECES: it would be missing from $(SQL_SCRIPT))
endif

# pg_regress finds test/sql through --inputdir and expected/ in the current directory. A regression
# file creates and drops the extension itself; the isolation specs find it created.
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=$(EXTENSION)

PG_CONFIG ?= pg_config
INCLUDEDIR_SERVER := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)
INCLUDEDIR_INTERNAL := $(shell $(PG_CONFIG) --pkgincludedir 2>/dev/null)/internal

# The server's headers are system headers here (-isystem wins over the -I of PGXS), so that warnings
# are about this code only. Neither exceptions nor RTTI: an error of the server is a longjmp, and
# what C++ would unwind must not exist. libstdc++ is linked only if something needs it.
PG_CPPFLAGS = -Isrc -isystem $(INCLUDEDIR_SERVER) -isystem $(INCLUDEDIR_INTERNAL)
PG_CPPFLAGS += -DLEADROUTE_VERSION='"$(EXTVERSION)"'
PG_CXXFLAGS = -std=gnu++20 -Wall -Wextra -Wno-register -fno-exceptions -fno-rtti -MMD -MP
SHLIB_LINK = -Wl,--version-script=src/leadroute.map -Wl,--as-needed -lstdc++
ifneq ($(filter true 1,$(CI) $(WERROR)),)
PG_CXXFLAGS += -Werror
endif
ifeq ($(SANITIZE),1)
SANITIZERS = -fsanitize=address,undefined -fno-sanitize=vptr -fno-omit-frame-pointer
PG_CXXFLAGS += $(SANITIZERS) -O1
SHLIB_LINK += $(SANITIZERS)
endif
EXTRA_CLEAN = build results output_iso regression.diffs regression.out src/pg/*.d src/core/*.d

# Bitcode for the server's JIT gains nothing here and needs the clang the server was built with.
# override, because PGXS assigns the variable; `make with_llvm=yes` still works.
ifeq ($(origin with_llvm),undefined)
override with_llvm = no
endif

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)

include $(PGXS)

COMPILE.cxx.bc += $(filter-out -MMD -MP -Werror,$(PG_CXXFLAGS))

# The core has no business with the server's loader.
src/core/%.o src/core/%.bc: override CXXFLAGS += -fvisibility=hidden -fvisibility-inlines-hidden

$(SQL_SCRIPT): $(SQL_PIECES:%=sql/%.sql) Makefile
	cat $(SQL_PIECES:%=sql/%.sql) > $@.new
	mv $@.new $@

$(shlib): src/leadroute.map

# Objects follow their headers, and the flags they were built with.
$(OBJS): build/flags
build/flags: FORCE
	@mkdir -p build
	@echo '$(CXX) $(CXXFLAGS) $(CPPFLAGS)' | cmp -s - $@ || echo '$(CXX) $(CXXFLAGS) $(CPPFLAGS)' > $@
FORCE:
-include $(OBJS:.o=.d)

else

all install uninstall installdirs installcheck:
	@echo 'leadroute needs the headers of PostgreSQL 15 and a C++20 compiler. On Debian or Ubuntu:' >&2
	@echo '    apt-get install g++ make postgresql-15 postgresql-server-dev-15' >&2
	@echo '(make demo and make test do that themselves), elsewhere: make PG_CONFIG=/path/to/pg_config' >&2
	@exit 1

clean:
	rm -rf $(EXTRA_CLEAN) $(OBJS) $(MODULE_big).so $(DATA_built)

endif

.DEFAULT_GOAL = all
.PHONY: all install uninstall installcheck clean demo test soak sanitize bench format FORCE
export PG_CONFIG

SUITES = lint unit regress isolation pgtap tap

test:
	test/run/packages test
	test/run/suites $(SUITES)

.PHONY: $(SUITES:%=test-%)
$(SUITES:%=test-%): test-%:
	test/run/packages test
	test/run/suites $* -- $(T)

# The tests that scale themselves, at size.
soak:
	test/run/packages test
	LEADROUTE_SOAK=$${LEADROUTE_SOAK:-1} test/run/suites unit
	LEADROUTE_SOAK=$${LEADROUTE_SOAK:-1} test/run/suites tap -- $$(grep -lE '\bsoak\(' test/t/*.pl)

sanitize:
	test/run/packages sanitize
	test/run/sanitize

bench:
	test/run/packages bench
	test/bench/run $(T)

demo:
	test/run/packages demo
	demo/run

# Writes the C++ as the format check wants it.
format:
	find src test demo -name '*.cpp' -o -name '*.h' | xargs clang-format -i

# For the scripts of test/run: `make -s print-CORE_SRCS`.
print-%:
	@echo '$($*)'
