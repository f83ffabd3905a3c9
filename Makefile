# The usual commands, thin over CMake; each build has its own directory below build/.
#
#   make run [PORT=n]         builds the examples and starts the echo server
#   make test                 builds the tests and runs them (installs what they need, Debian, as root)
#   make install PREFIX=dir   installs headers, both libraries, pkg-config file and CMake package; DESTDIR=dir: below it
#   make uninstall            removes what the last one has installed; DESTDIR as there
#   make bench                builds and runs the benchmarks; BENCH_ARGS="<row> <threads> <n>" one of them
#   make bench-peers [PEERS_ARGS="--quick"]   builds Tokio, Go, Boost.Fiber and libuv programs that do the same work
#                             (installs those, Debian, as root), measures all in turn; --tcp: echo servers
#   make bench-instructions   instructions of one operation against bench/instructions.txt (valgrind);
#                             UPDATE=1 records them
#   make asan | tsan | tsan-no-sync | memcheck | stress | cross-aarch64   the tests again, under these
#   make faults [FAULTS="tcp fd"] [FAULTS_ARGS=--depth=0]   fails every call in turn under the tests of the API
#   make soak [SECONDS=60] [SEED=n]   random work of every kind for as long as asked; docs/design/soak.md
#   make coverage             lines and branches of src/ that the tests run (clang); CHECK=1 compares with
#                             docs/design/coverage.md, UPDATE=1 records there, UNCOVERED=1 lists the rest
#   make simulate [SEEDS=10000] [FIRST=1]   random programs in the simulation, one a seed
#   make model-deep [SECONDS=60]   the model programs at bound 3, each for so long at most
#   make matrix [CELLS=regex] [TESTS=regex]   compilers, levels, libc, architecture: builds .ci/run leaves out
#   make fuzz [NAME=target] [SECONDS=60]   fuzz targets (clang), one or all
#   make format | lint        clang-format in place; all static checks
#
# V=1 shows the compiler's command lines, WERROR=1 makes warnings errors, LABELS=unit picks the tests.
# CC=clang, BUILD_TYPE=Debug, SHARED=1 (the API tests against the shared library too) and VARIANTS=1
# (other optimizations, for the tests that ask for it) want a BUILD directory of their own.

PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
CMAKE ?= cmake
CTEST ?= ctest
BUILD ?= build
BUILD_TYPE ?= RelWithDebInfo

# Not by abspath, which takes a path with spaces for several.
build_path = $(if $(filter /%,$(BUILD)),,$(CURDIR)/)$(BUILD)

# By ninja where there is one: a fifth less work than by make. A directory stays with what it began with.
NINJA ?= $(shell command -v ninja)
generator = $$([ -e "$(1)/CMakeCache.txt" ] || [ -z "$(NINJA)" ] || echo -G Ninja)

configure = $(CMAKE) -S . -B "$(1)" $(generator) \
	$(if $(filter-out default,$(origin CC)),-DCMAKE_C_COMPILER=$(CC)) \
	-DWEFT_WERROR=$(if $(WERROR),ON,OFF) $(2) >"$(1).log" 2>&1 || { cat "$(1).log"; exit 1; }; \
	sed -n 's/^-- not under/not under/p' "$(1).log"
build = MAKEFLAGS=--no-print-directory $(CMAKE) --build "$(1)" -j $(JOBS) $(if $(V),--verbose)
run_tests = cd "$(1)" && $(CTEST) --output-on-failure --no-tests=error -j $(JOBS) \
	-L '^($(or $(LABELS),$(2)))$$' $(CTEST_FLAGS)

# Without the models where LABELS has none: they are the library once more.
test_options = -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DWEFT_BUILD_TESTS=ON \
	-DWEFT_TEST_LAUNCHER= -DWEFT_TEST_UNDER= -DWEFT_TEST_TIMEOUT_SCALE=1 \
	-DWEFT_TEST_MODELS=$(if $(findstring model,$(or $(LABELS),model)),ON,OFF) \
	-DWEFT_TEST_SHARED=$(if $(SHARED),ON,OFF) -DWEFT_TEST_VARIANTS=$(if $(VARIANTS),ON,OFF)

, := ,
empty :=
space := $(empty) $(empty)
labels = $(subst $(space),|,$(strip $(1)))
tests_all = $(call labels,unit model sim api faults $(if $(SHARED),api-shared) example check install)
tests_code = $(call labels,unit sim api faults example)

.PHONY: all run test install uninstall bench bench-peers bench-instructions asan tsan tsan-no-sync memcheck stress soak coverage cross-aarch64 model-deep simulate fuzz faults matrix format lint clean

all:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/release,-DCMAKE_BUILD_TYPE=Release -DWEFT_BUILD_TESTS=OFF)
	@$(call build,$(BUILD)/release)

run: all
	"$(BUILD)/release/examples/echo" $(if $(PORT),127.0.0.1:$(PORT))

test:
	@tools/install-test-deps
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/test,$(test_options))
	@$(call build,$(BUILD)/test)
	@$(call run_tests,$(BUILD)/test,$(tests_all))

manifest = $(BUILD)/install/install_manifest.txt
renew_ldconfig = if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

# Its own directory: the prefix decides paths, and a user's flags should not rebuild the rest.
install:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/install,-DCMAKE_BUILD_TYPE=RelWithDebInfo -DWEFT_BUILD_TESTS=OFF \
		-DWEFT_BUILD_EXAMPLES=OFF "-DCMAKE_INSTALL_PREFIX=$(PREFIX)")
	@$(call build,$(BUILD)/install)
	@$(CMAKE) --install "$(BUILD)/install"
	@$(renew_ldconfig)

# Files by the list that cmake has left; directories that are weft's alone, once they are empty.
uninstall:
	@[ -f "$(manifest)" ] || { echo "make uninstall: nothing was installed from $(BUILD)/install"; exit 1; }
	@while IFS= read -r file || [ -n "$$file" ]; do \
		rm -f "$(DESTDIR)$$file" || exit 1; dir=$$(dirname "$(DESTDIR)$$file"); \
		case $$dir in */weft) rmdir "$$dir" 2>/dev/null || true;; esac; done <"$(manifest)"
	@rm "$(manifest)"
	@$(renew_ldconfig)

build_bench = mkdir -p "$(BUILD)" && \
	$(call configure,$(BUILD)/bench,-DCMAKE_BUILD_TYPE=Release -DWEFT_BUILD_TESTS=OFF \
		-DWEFT_BUILD_EXAMPLES=OFF -DWEFT_BUILD_BENCH=ON) && $(call build,$(BUILD)/bench)

bench:
	@$(build_bench)
	"$(BUILD)/bench/bench/weft-bench" $(BENCH_ARGS)

bench-peers:
	@$(build_bench)
	@tools/bench-peers --build "$(BUILD)" $(PEERS_ARGS)

bench-instructions:
	@$(build_bench)
	tools/check-instructions "$(BUILD)/bench/bench/weft-bench" $(if $(UPDATE),--update)

# With clang: under gcc 12 TSan has room for 8,128 fibers only.
asan: CC = clang
asan:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/asan,-DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O1 \
		-DCMAKE_CXX_COMPILER=clang++ -DWEFT_SANITIZE=address$(,)undefined \
		-DWEFT_TEST_UNDER=address -DWEFT_TEST_TIMEOUT_SCALE=3)
	@$(call build,$(BUILD)/asan)
	@status=0; for uar in 1 0; do \
		echo "detect_stack_use_after_return=$$uar"; \
		(ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=$$uar; export ASAN_OPTIONS; \
		[ $$uar = 1 ] || set -- -R '^unit[.](fiber|task)[.]|^api[.](cleanup|dump|scope|select|spawn)$$'; \
		$(call run_tests,$(BUILD)/asan,$(tests_code)) "$$@") || status=1; \
	done; exit $$status

# Without the synchronization that TSan assumes at a switch, two tasks that happen to share a worker
# race like any two, so tsan-no-sync sees what tsan calls ordered.
tsan tsan-no-sync: CC = clang
tsan-no-sync: export TSAN_OPTIONS = suppressions="$(CURDIR)/tests/tsan-no-sync.supp"
tsan tsan-no-sync:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/$@,-DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_FLAGS="-O1 $(if $(filter tsan-no-sync,$@),-DWEFT_TSAN_NO_SYNC)" \
		-DCMAKE_CXX_COMPILER=clang++ -DWEFT_SANITIZE=thread \
		-DWEFT_TEST_UNDER=thread -DWEFT_TEST_TIMEOUT_SCALE=4)
	@$(call build,$(BUILD)/$@)
	@$(call run_tests,$(BUILD)/$@,$(tests_code))

# What `make test` has built. Definite leaks alone: what only a pointer to its middle holds is "possible", which the
# thread-local blocks of threads are that a fork left behind.
memcheck:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/test,$(test_options) \
		-DWEFT_TEST_LAUNCHER="valgrind;-q;--error-exitcode=99;--leak-check=full;--errors-for-leak-kinds=definite;--fair-sched=yes" \
		-DWEFT_TEST_UNDER=memcheck -DWEFT_TEST_TIMEOUT_SCALE=5)
	@$(call build,$(BUILD)/test)
	@$(call run_tests,$(BUILD)/test,$(call labels,unit sim api)) -LE script

# Not the models: they run a library of their own. Not the scripts: minutes of load, nothing else.
coverage: CC = clang
coverage: export LLVM_PROFILE_FILE = $(build_path)/coverage/profiles/%c%m-%p.profraw
coverage:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/coverage,-DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O2 \
		-DCMAKE_CXX_COMPILER=clang++ -DWEFT_COVERAGE=ON -DWEFT_TEST_VARIANTS=$(if $(VARIANTS),ON,OFF))
	@$(call build,$(BUILD)/coverage)
	@rm -rf "$(BUILD)/coverage/profiles"
	@($(call run_tests,$(BUILD)/coverage,$(tests_code)) -LE script)
	@tools/coverage "$(BUILD)/coverage" $(if $(CHECK),--check) $(if $(UPDATE),--update) \
		$(if $(UNCOVERED),--uncovered)

SEEDS ?= 10000
FIRST ?= 1
simulate:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/test,$(test_options))
	@$(call build,$(BUILD)/test) --target test_sim_simulate
	"$(BUILD)/test/tests/sim/weft-simulate" $(SEEDS) $(FIRST) -j $(JOBS)

SECONDS ?= 60
model-deep:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/test,$(test_options))
	@$(call build,$(BUILD)/test) --target model_tests
	@tools/models "$(BUILD)/test" --bound 3 --seconds $(SECONDS) --jobs $(JOBS)

matrix:
	@JOBS=$(JOBS) tools/matrix "$(BUILD)/matrix" '$(or $(CELLS),.)' '$(or $(TESTS),.)'

fuzz: CC = clang
fuzz:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/fuzz,-DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_FLAGS="-O1 -fsanitize=fuzzer-no-link" -DCMAKE_CXX_COMPILER=clang++ \
		-DWEFT_SANITIZE=address$(,)undefined -DWEFT_FUZZ=ON)
	@$(call build,$(BUILD)/fuzz) --target fuzz_targets
	@tools/fuzz "$(BUILD)/fuzz" $(SECONDS) $(NAME)

# The same build as that of asan.
faults: CC = clang
faults:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/asan,-DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O1 \
		-DCMAKE_CXX_COMPILER=clang++ -DWEFT_SANITIZE=address$(,)undefined \
		-DWEFT_TEST_UNDER=address -DWEFT_TEST_TIMEOUT_SCALE=3)
	@$(call build,$(BUILD)/asan)
	@tools/sweep-faults "$(BUILD)/asan" $(FAULTS) --jobs $(JOBS) $(FAULTS_ARGS)

stress:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/test,$(test_options))
	@$(call build,$(BUILD)/test)
	@$(call run_tests,$(BUILD)/test,stress)

soak:
	@mkdir -p "$(BUILD)"
	@$(call configure,$(BUILD)/test,$(test_options))
	@$(call build,$(BUILD)/test) --target soak
	"$(BUILD)/test/tests/soak/soak" $(SECONDS) $(SEED)

cross-aarch64:
	@mkdir -p "$(BUILD)"
	@tools/fetch-aarch64-cmocka "$(BUILD)/sysroot-aarch64"
	@$(call configure,$(BUILD)/aarch64,-DCMAKE_BUILD_TYPE=RelWithDebInfo -DWEFT_TEST_MODELS=OFF \
		-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake \
		-DWEFT_TEST_VARIANTS=$(if $(VARIANTS),ON,OFF) \
		"-DWEFT_SYSROOT_EXTRA=$(build_path)/sysroot-aarch64" \
		-DWEFT_TEST_UNDER=aarch64 -DWEFT_TEST_TIMEOUT_SCALE=4)
	@$(call build,$(BUILD)/aarch64)
	@$(call run_tests,$(BUILD)/aarch64,$(call labels,unit sim api))

format:
	@tools/format

lint:
	@tools/lint "$(BUILD)"

clean:
	rm -rf "$(BUILD)"
