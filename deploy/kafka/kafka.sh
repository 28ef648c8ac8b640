#!/usr/bin/env bash
# Runs one real Apache Kafka node (KRaft: broker and controller in one process) on 127.0.0.1, its jars fetched by Maven.
# For tests and for trying sluice on the real thing; not for production.
set -euo pipefail

usage() {
	cat <<'EOF'
usage: deploy/kafka/kafka.sh COMMAND [--port N] [--dir D]

  start    start the node in the background and wait until it answers; prints its address
  stop     stop the node that runs in D; its data stay
  status   print the address of the node that runs in D; exit 1 if none answers
  fetch    fetch the jars and do no more

  --port N  port on 127.0.0.1; 0 takes a free one (default 9092)
  --dir D   folder of the data, the log (kafka.log) and the pid (default .sluice/apache-kafka)

environment: SLUICE_CACHE (cache folder, default ~/.cache/sluice), KAFKA_HEAP (default 1g)
EOF
}

readonly START_SECONDS=90 # a cold JVM on a busy machine takes 20 s
readonly STOP_SECONDS=30  # then the node is killed

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/pom.xml")
cache=${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}
jars=$cache/kafka-$version

say() { printf 'kafka: %s\n' "$*" >&2; }
die() {
	say "$@"
	exit 1
}

# require_java answers a machine without what Kafka needs in one line.
require_java() {
	command -v java >/dev/null || die "java is missing: install a Java runtime, 17 or newer (Debian: apt-get install default-jre-headless)"
	local major
	major=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.specification.version = \([0-9]*\).*/\1/p')
	((${major:-0} >= 17)) || die "java is ${major:-unknown}: Kafka $version needs 17 or newer"
}

# fetch fills the cache folder; a folder that exists is complete because it is renamed into place last.
fetch() {
	[[ -d $jars ]] && return
	command -v mvn >/dev/null || die "mvn is missing: install Apache Maven (Debian: apt-get install maven)"
	say "fetching Kafka $version with Maven into $jars"
	mkdir -p "$cache"
	local stage
	stage=$(mktemp -d "$jars.partial.XXXXXX")
	# Maven's output is shown when it fails.
	if ! mvn -B --strict-checksums -f "$here/pom.xml" dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$stage" </dev/null >"$stage.log" 2>&1; then
		cat "$stage.log" >&2
		rm -rf "$stage" "$stage.log"
		die "Maven could not fetch Kafka $version (its output is above): check that Maven reaches Maven Central, then try again"
	fi
	rm -f "$stage.log"
	# Another start may have been faster: its folder is as good.
	[[ -d $jars ]] || mv "$stage" "$jars" || true
	rm -rf "$stage"
	[[ -d $jars ]] || die "$jars cannot be written: set SLUICE_CACHE to a folder that can"
}

# answers says whether a Kafka broker replies on a port: it sends ApiVersions (key 18, version 0, correlation 1, no
# client id) and waits for the first byte of the reply's length, which is 0. A broker replies once it is unfenced.
answers() {
	(
		exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
		printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff' >&3
		IFS= read -r -t 2 -d '' _ <&3
	) 2>/dev/null
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port prints a port that nothing listens on, below the range from which systems hand out ports to clients.
free_port() {
	local port
	for _ in {1..100}; do
		port=$((20000 + RANDOM % 12000))
		taken "$port" || {
			echo "$port"
			return
		}
	done
	die "no free port found between 20000 and 32000: give one with --port"
}

# arguments prints the command line of a process, nothing if there is none. Small machines have /proc but no ps.
arguments() {
	if [[ -d /proc/self ]]; then
		tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || true
	else
		ps -o args= -p "$1" || true
	fi
} 2>/dev/null

# running prints the pid of the node in $dir, and fails if there is none. A pid that now is another program's is no node.
running() {
	local pid
	pid=$(cat "$dir/kafka.pid" 2>/dev/null) || return 1
	[[ $pid =~ ^[0-9]+$ ]] || return 1
	[[ $(arguments "$pid") == *"kafka.Kafka $dir/server.properties"* ]] || return 1
	echo "$pid"
}

# configure writes the node's configuration and formats its storage on first use.
configure() {
	local controller
	controller=$(free_port)
	{
		cat "$here/server.properties"
		printf '\n# Added by kafka.sh.\n'
		echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller"
		echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port"
		echo "controller.quorum.voters=1@127.0.0.1:$controller"
		echo "log.dirs=$dir/data"
	} >"$dir/server.properties"
	echo "$port" >"$dir/kafka.port"
	[[ -f $dir/data/meta.properties ]] && return
	# A UUID in Kafka's form: 16 bytes, URL-safe base64 without padding.
	local id
	id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
	(exec_java kafka.tools.StorageTool format --cluster-id "A${id:1}" --config "$dir/server.properties") ||
		show_log "the storage in $dir could not be formatted"
}

# exec_java runs one of Kafka's main classes in place of the shell that calls it. It leaves nothing outside its folder,
# the libraries of the compression codecs included.
exec_java() {
	mkdir -p "$dir/tmp"
	exec java -Xms256m -Xmx"${KAFKA_HEAP:-1g}" -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:-UsePerfData \
		-Djava.awt.headless=true -Djava.io.tmpdir="$dir/tmp" -Dlog4j2.configurationFile="$here/log4j2.properties" \
		-cp "$jars/*" "$@" </dev/null >>"$dir/kafka.log" 2>&1
}

start() {
	local pid
	if pid=$(running); then
		say "already running in $dir (pid $pid)"
		address
		return
	fi
	require_java
	fetch
	((port)) || port=$(free_port)
	taken "$port" && die "port $port is taken: give another with --port, or 0 for a free one"
	configure
	ulimit -n "$(ulimit -H -n)" 2>/dev/null || true # each partition holds some files open
	launch
	await
	address
}

# show_log ends with the end of the node's log and what went wrong.
show_log() {
	tail -n 20 "$dir/kafka.log" >&2
	die "$1; the end of $dir/kafka.log is above"
}

# launch leaves the node running in the background, its output in kafka.log, its pid in kafka.pid. It outlives the
# terminal that started it.
launch() {
	(
		trap '' HUP
		exec_java kafka.Kafka "$dir/server.properties"
	) &
	echo $! >"$dir/kafka.pid"
}

# await returns when the node answers, and shows the end of its log if it does not.
await() {
	local deadline=$((SECONDS + START_SECONDS))
	until answers "$port"; do
		if ! kill -0 "$(cat "$dir/kafka.pid")" 2>/dev/null; then
			show_log "Kafka did not start"
		fi
		if ((SECONDS > deadline)); then
			stop
			show_log "Kafka did not answer on port $port within $START_SECONDS s"
		fi
		sleep 0.2
	done
}

stop() {
	local pid
	if ! pid=$(running); then
		rm -f "$dir/kafka.pid"
		say "not running in $dir"
		return
	fi
	kill -TERM "$pid"
	local deadline=$((SECONDS + STOP_SECONDS))
	while running >/dev/null; do
		if ((SECONDS > deadline)); then
			say "still up after $STOP_SECONDS s: killing it"
			kill -KILL "$pid"
			deadline=$((deadline + STOP_SECONDS))
		fi
		sleep 0.2
	done
	rm -f "$dir/kafka.pid"
}

status() {
	local pid
	pid=$(running) || die "not running in $dir"
	answers "$(cat "$dir/kafka.port")" || die "pid $pid runs in $dir but does not answer; see $dir/kafka.log"
	address
}

address() { echo "127.0.0.1:$(cat "$dir/kafka.port")"; }

command=${1:-}
[[ -n $command ]] && shift
port=9092
dir=$(cd "$here/../.." && pwd)/.sluice/apache-kafka
while (($#)); do
	case $1 in
	--port | --dir)
		(($# > 1)) || die "$1 needs a value"
		[[ $1 == --port ]] && port=$2 || dir=$2
		shift 2
		;;
	--port=*) port=${1#*=} && shift ;;
	--dir=*) dir=${1#*=} && shift ;;
	-h | --help) command=help && shift ;;
	*) die "unknown argument $1: see kafka.sh --help" ;;
	esac
done
[[ $port =~ ^(0|[1-9][0-9]{0,4})$ && $port -le 65535 ]] || die "--port $port: give 1 to 65535, or 0 for a free one"
[[ $command == start ]] && mkdir -p "$dir"
dir=$(cd "$dir" 2>/dev/null && pwd || echo "$dir") # one name for one folder

case $command in
start | stop | status) "$command" ;;
fetch) require_java && fetch ;;
help | -h | --help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
