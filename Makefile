# The short way to everything; CMake presets are behind it. `make demo` and `make test` work on a bare Debian 12 machine.
.PHONY: demo test test-conversations fuzz soak sanitize install package test-clients test-clients-short test-deploy build configure deps format gpu-test clean
JOBS ?= $(shell nproc)
# ON: a build without the CUDA backend is an error. AUTO: it says so.
CUDA ?= AUTO
export CUDACXX = $(shell tools/install_cuda.sh --find)
LAUNCHER = $(if $(shell command -v ccache),-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)

demo: configure
	cmake --build build -j $(JOBS) --target hearth
	tools/demo.sh build/hearth

test: build
	cd build && ctest --output-on-failure -j $(JOBS)

# The clients people have, against the built server: openai-python, lm-eval, guidellm, aiperf, LangChain, LiteLLM, LlamaIndex, pydantic-ai,
# instructor, llm, Prometheus' parser. The short form leaves out those that take longest: lm-eval, guidellm, aiperf and LiteLLM; the long
# one lets Qwen2.5-Coder-0.5B, which knows tools, answer those that send them.
test-clients test-clients-short: configure
	cmake --build build -j $(JOBS) --target hearth
	tools/test_venv.sh clients
	$(if $(findstring short,$@),,tools/test_venv.sh aiperf)
	.cache/clients-venv/bin/python tests/clients/run.py build/hearth .cache/models/smollm2-135m-instruct.gguf $(if $(findstring short,$@),--short)
	$(if $(findstring short,$@),,tools/fetch_qwen_coder.sh)
	$(if $(findstring short,$@),,.cache/clients-venv/bin/python tests/clients/run.py build/hearth .cache/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf \
	  instructor langchain litellm pydantic_ai)

# Qwen2.5-Coder-0.5B holds 200 conversations with tools, streamed and not; an hour on 2 cores. `make test` has a short form.
test-conversations: configure
	cmake --build build -j $(JOBS) --target hearth
	tools/fetch_qwen_coder.sh
	tools/test_venv.sh
	.cache/venv/bin/python tests/server/test_conversations.py build/hearth .cache/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf 200

# The files of deploy/ by their own tools, and two servers behind HAProxy and sglang-router, one of them killed under load.
test-deploy: configure
	cmake --build build -j $(JOBS) --target hearth
	tools/test_venv.sh deploy
	@command -v haproxy >/dev/null || { echo "test-deploy: haproxy is missing: apt-get install haproxy" >&2; exit 1; }
	.cache/deploy-venv/bin/python tests/deploy/test_files.py build/hearth .cache/models/smollm2-135m-instruct.gguf
	.cache/deploy-venv/bin/python tests/deploy/test_two_servers.py build/hearth .cache/models/smollm2-135m-instruct.gguf

# Every fuzz target under libFuzzer, SECONDS each; ONLY="json http" chooses. What one finds lies in build-fuzz/found.
SECONDS ?= 300
fuzz: deps
	tools/fuzz.sh $(SECONDS) $(ONLY)

# A server under every kind of client, SECONDS long, under the address and the thread sanitizer.
soak: SECONDS = 600
soak: deps
	tools/soak.sh $(SECONDS)

# The short form of both, and the tests of server, engine and simulation, under the sanitizers.
sanitize: SECONDS = 10
sanitize: deps
	tools/sanitize.sh $(SECONDS)

PREFIX ?= /usr/local
install: configure
	cmake --build build -j $(JOBS) --target hearth
	DESTDIR=$(DESTDIR) cmake --install build --prefix $(PREFIX) --strip

# dist/hearth-VERSION-linux-x86_64.tar.gz: the binary, its unit for systemd, the licences of all that is linked in; and its checksum.
package: configure
	cmake --build build -j $(JOBS) --target hearth
	tools/package.sh build dist

build: configure
	cmake --build build -j $(JOBS)

configure: deps
	cmake --preset release -DHEARTH_CUDA=$(CUDA) $(LAUNCHER) >/dev/null

deps:
	tools/install_deps.sh
	tools/install_cuda.sh --if-gpu >/dev/null
	tools/fetch_xgrammar.sh
	tools/fetch_test_models.sh

format:
	git ls-files -co --exclude-standard "*.h" "*.cc" "*.cu" "*.cuh" | xargs clang-format-14 -i

# Every kernel against its CPU op, on a machine with a Hopper GPU.
gpu-test: build
	tools/gpu_test.sh build

clean:
	rm -rf build build-*
