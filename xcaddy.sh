#!/usr/bin/env bash
# Builds, runs and tests the gateway. See usage below.
set -euo pipefail

CADDY_VERSION=v2.11.9
GOLANGCI_VERSION=v2.7.0
MODULE=github.com/caddy-wechat/caddy-wechat

cd "$(dirname "${BASH_SOURCE[0]}")"

RUN_DIR=${WECHAT_RUN_DIR:-$PWD/.run} # everything that `run` leaves behind
CADDY=${CADDY_BIN:-$PWD/caddy}

usage() {
	cat <<'USAGE'
./xcaddy.sh [build]                      builds ./caddy with this plugin; needs Go alone
./xcaddy.sh run                          the demo with a simulated WeChat, for any desktop browser
                                         with WECHAT_APP_ID in the environment: Caddyfile.example
./xcaddy.sh run --test <app id> <secret> a real WeChat test account (测试号) and the phone beside you
      --port <n>                         the sites' port               (or WECHAT_DEMO_PORT, default 8080)
      --weixin-port <n>                  the simulated WeChat's port   (or WECHAT_DEMO_WEIXIN_PORT, default 8081)
      --host <address>                   with --test: this machine's address, as the phone reaches it
./xcaddy.sh test                         installs what the tests need, and runs them all
./xcaddy.sh bench [<option>...]          measures what the gateway costs, in 45 minutes; see integration/bench/README.md
./xcaddy.sh lint                         golangci-lint
run keeps all its files in .run/ (or WECHAT_RUN_DIR) and ends with Ctrl-C.
USAGE
}

die() {
	echo "xcaddy.sh: $*" >&2
	exit 1
}

need_go() {
	command -v go >/dev/null || die "Go is not installed; see https://go.dev/doc/install"
}

# The version in --with keeps xcaddy from asking for a list of versions.
build() {
	need_go
	echo "building caddy $CADDY_VERSION with this plugin …" >&2
	go tool xcaddy build "$CADDY_VERSION" --with "$MODULE@v0.0.0=." --output ./caddy
}

# CADDY_BIN names a gateway that is built already.
build_if_needed() {
	[[ -n ${CADDY_BIN:-} ]] && return
	[[ -x caddy ]] && [[ -z $(newer_sources) ]] && return
	build
}

newer_sources() {
	find caddywechat.go go.mod go.sum caddymodule ticket wechat \
		-newer caddy ! -name '*_test.go' ! -path '*/testdata*' -print -quit
}

# A signal that ends this script must reach the gateway: each way ends in exec.
run() {
	local test=()
	local options=()
	while (($#)); do
		case $1 in
		--test)
			(($# >= 3)) || die "--test needs two values: <app id> <secret>"
			test=("$2" "$3")
			shift 3
			;;
		--port | --weixin-port | --host)
			(($# >= 2)) || die "$1 needs a value"
			options+=("$1" "$2")
			shift 2
			;;
		*) die "unknown option $1; see ./xcaddy.sh --help" ;;
		esac
	done
	need_go
	build_if_needed
	(umask 077 && mkdir -p "$RUN_DIR")
	export XDG_DATA_HOME=$RUN_DIR/data XDG_CONFIG_HOME=$RUN_DIR/config
	if ((${#test[@]})); then
		run_demo "${test[@]}" --test ${options[@]+"${options[@]}"}
	elif [[ -z ${WECHAT_APP_ID:-} ]]; then
		run_demo "" "" ${options[@]+"${options[@]}"}
	elif ((${#options[@]})); then
		die "${options[0]} is for the demo and --test; Caddyfile.example says what it listens on"
	else
		run_example
	fi
}

# run_demo gets the secret by the environment: arguments show in lists of processes.
run_demo() {
	local app_id=$1 secret=$2
	shift 2
	go build -buildvcs=false -o "$RUN_DIR/demo" ./integration/demo
	[[ -z $app_id ]] || export WECHAT_APP_ID=$app_id WECHAT_APP_SECRET=$secret
	exec "$RUN_DIR/demo" --caddy "$CADDY" --dir "$RUN_DIR" "$@"
}

run_example() {
	[[ -n ${WECHAT_APP_SECRET:-} ]] || die "WECHAT_APP_ID is set, WECHAT_APP_SECRET is not"
	cat <<HINT
Running Caddyfile.example; put your own domains into it. It listens on ports 80 and 443: an
ordinary user needs leave for that (sudo setcap cap_net_bind_service=+ep ./caddy). Files: $RUN_DIR
HINT
	echo "open in WeChat: https://$(example_site)/"
	exec "$CADDY" run --config Caddyfile.example --adapter caddyfile
}

# example_site is the first site of Caddyfile.example.
example_site() {
	sed -n 's/^\([a-z0-9][a-z0-9.-]*\)\(,.*\)\{0,1\} {$/\1/p' Caddyfile.example | head -n 1
}

# WECHAT_TEST_ALL=1 makes a missing program a failure. What was skipped with -race (memory and allocations are
# measured without it) runs again without, and a test that is skipped there, too, fails. Fuzz seeds may skip.
run_tests() {
	need_go
	install_for_tests
	# As xcaddy compiles, so that a build after the tests has most of it. No git is needed, nor a checkout of one's own.
	export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath -tags=nobadger,nomysql,nopgx ${GOFLAGS:-}"
	export WECHAT_TEST_ALL=1
	echo "go vet ./..."
	go vet ./...
	TEST_LOGS=$(mktemp -d)
	trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$TEST_LOGS"' EXIT
	race_tests
	local package names log
	cat "$TEST_LOGS"/race.* | skipped | while read -r package names; do
		log="$TEST_LOGS/plain.${package##*/}"
		go_test "$log" -run "^($names)\$" "$package"
		[[ -z $(skipped <"$log") ]] || die "skipped in $package: $(skipped <"$log"); all tests must run"
	done
	echo "tests and subtests: $(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped and run again without -race"
}

# race_tests runs all tests with the race detector. Those of integration take most of the time, and wait for much
# of it: three parts of them run at once, two of them when all else is done.
race_tests() {
	local integration name parts=("" "" "") part=0 first second
	integration=$(go list ./integration)
	for name in $(grep -hoE '^func (Test|Fuzz)[A-Za-z0-9_]+\([tf] ' integration/*_test.go | sed 's/func //; s/(.*//'); do
		parts[part]+="${parts[part]:+|}$name"
		part=$(((part + 1) % 3))
	done
	go_test "$TEST_LOGS/race.0" -race -shuffle=on -run "^(${parts[0]})\$" ./integration &
	first=$!
	# shellcheck disable=SC2046 # a word a package
	go_test "$TEST_LOGS/race.other" -race -shuffle=on $(go list ./... | grep -vxF "$integration")
	go_test "$TEST_LOGS/race.1" -race -shuffle=on -run "^(${parts[1]})\$" ./integration &
	second=$!
	go_test "$TEST_LOGS/race.2" -race -shuffle=on -run "^(${parts[2]})\$" ./integration
	wait "$first"
	wait "$second"
}

# go_test runs tests into a log, and shows of it what tells how they went.
go_test() {
	local log=$1 status=0
	shift
	local shown="$*"
	echo "go test -count=1 ${shown:0:120}"
	[[ $1 != -race ]] || local -x CGO_ENABLED=1 # the race detector needs cgo
	go test -v -count=1 -timeout=40m "$@" 2>&1 </dev/null | tee "$log" |
		grep --line-buffered -E '^(ok|FAIL|\?|panic:)|^-test.shuffle| *--- (FAIL|SKIP)' || status=$?
	((status)) || return 0
	echo "---- what the tests said:"
	grep -v -E '^ *(=== (RUN|PAUSE|CONT)|--- PASS)' "$log" || true
	die "tests failed"
}

# skipped lists from a log each package in which tests, or subtests, were skipped, and their names.
skipped() {
	awk '/^ *--- SKIP: Test/ { sub("/.*", "", $3); names[$3] }
		/^(ok|FAIL)[ \t]+[^ \t]/ {
			for (name in names) list[$2] = list[$2] (list[$2] == "" ? "" : "|") name
			delete names
		}
		END { for (package in list) print package, list[package] }'
}

count() {
	cat "$TEST_LOGS"/* | grep -c -E "^ *--- $1: Test" || true
}

# install_for_tests installs what is missing, on Debian and its like. Elsewhere the tests say what they miss.
install_for_tests() {
	local packages=()
	has php-fpm php-fpm8.4 php-fpm8.3 php-fpm8.2 php-fpm8.1 || packages+=(php-fpm)
	has redis-server || packages+=(redis-server)
	has chromium chromium-browser google-chrome || packages+=(chromium)
	fc-list :lang=zh 2>/dev/null | grep -q . || packages+=(fontconfig fonts-wqy-microhei) # for the screenshots
	has zbarimg || packages+=(zbar-tools)
	has node || packages+=(nodejs)
	has npm || packages+=(npm)
	has python3 || packages+=(python3)
	has wrk || packages+=(wrk)
	if ((${#packages[@]})); then
		apt_install "${packages[@]}"
	fi
	npm_ci integration/browser playwright-core
	npm_ci integration/sdk co-wechat-oauth
}

# npm_ci installs a folder's modules, unless the named one is there.
npm_ci() {
	[[ -f $1/package.json && ! -d $1/node_modules/$2 ]] || return 0
	echo "npm ci in $1"
	PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --prefix "$1" --no-audit --no-fund
}

# has looks where daemons are, too: an ordinary user's PATH is without /usr/sbin.
has() {
	local name
	for name in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$name" >/dev/null && return
	done
	return 1
}

apt_install() {
	if ! command -v apt-get >/dev/null; then
		echo "not installed, and no apt-get here to do it: $*" >&2
		return
	fi
	local as_root=()
	if ((EUID != 0)); then
		command -v sudo >/dev/null || die "needs root to install: $*"
		as_root=(sudo)
	fi
	echo "installing $*"
	${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get update -q
	${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

bench() {
	need_go
	has wrk || apt_install wrk
	exec go run ./integration/bench "$@"
}

# golangci-lint has a module of its own: as a tool in go.mod it would bring all its dependencies along.
lint() {
	need_go
	go run "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI_VERSION" run ./... "$@"
}

command=${1:-build}
(($# == 0)) || shift
case $command in
build) build ;;
run) run "$@" ;;
test) run_tests ;;
bench) bench "$@" ;;
lint) lint "$@" ;;
-h | --help | help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
