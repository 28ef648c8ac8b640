package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/deploy/embedded"
	"sluice/deploy/embedded/enginestest"
)

// asMain makes the test binary be sluice: the tests below start it as real processes, which they may kill.
const asMain = "SLUICE_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	embedded.ClickHouseChild()
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(enginestest.Main(m))
}

// patience bounds every wait of these tests; none of them measures.
const patience = 3 * time.Minute

// process is a running sluice.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	news chan struct{} // something was printed, or it ended
	done chan struct{}
	err  error
}

// start runs sluice with the arguments.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), news: make(chan struct{}, 1), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asMain+"=1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go p.read(r)
	t.Cleanup(func() {
		p.interrupt() // its engines end with it, before their folder is removed
		select {
		case <-p.done:
		case <-time.After(patience):
			p.kill()
		}
		if t.Failed() {
			t.Logf("sluice %s printed:\n%s", strings.Join(args, " "), p.output())
		}
	})
	return p
}

func (p *process) read(r *os.File) {
	defer func() { _ = r.Close() }()
	ended := make(chan struct{})
	go func() {
		p.err = p.cmd.Wait()
		close(ended)
	}()
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		p.mu.Lock()
		p.out.Write(line)
		p.mu.Unlock()
		p.tell()
		if err != nil {
			break
		}
	}
	<-ended
	close(p.done)
	p.tell()
}

func (p *process) tell() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// says waits until the process has printed what the expression matches, and returns the submatches.
func (p *process) says(expression string) []string {
	p.t.Helper()
	re := regexp.MustCompile(expression)
	limit := time.After(patience)
	for {
		if m := re.FindStringSubmatch(p.output()); m != nil {
			return m
		}
		select {
		case <-p.news:
		case <-p.done:
			if m := re.FindStringSubmatch(p.output()); m != nil {
				return m
			}
			p.t.Fatalf("it ended (%v) without saying %s", p.err, expression)
		case <-limit:
			p.t.Fatalf("it did not say %s", expression)
		}
	}
}

// ends waits for the process and checks its exit code.
func (p *process) ends(code int) string {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("it did not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("exit code %d, want %d", got, code)
	}
	return p.output()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) interrupt() { _ = p.cmd.Process.Signal(syscall.SIGINT) }

// house is a data folder with free ports, on the embedded Kafka or, when SLUICE_TEST_KAFKA says so, on a real one.
type dataFolder struct {
	t     *testing.T
	dir   string
	flags []string
}

var prefixes struct {
	sync.Mutex
	n int
}

func newData(t *testing.T) *dataFolder {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	flags := []string{"--data", dir, "--kafka-port", "0", "--postgres-port", "0", "--clickhouse-port", "0", "--clickhouse-http-port", "0"}
	if kafka := os.Getenv("SLUICE_TEST_KAFKA"); kafka != "" {
		prefixes.Lock()
		prefixes.n++
		flags = append(flags, "--kafka", kafka, "--prefix", fmt.Sprintf("main%d-%d.", os.Getpid(), prefixes.n))
		prefixes.Unlock()
	}
	return &dataFolder{t, dir, flags}
}

func (d *dataFolder) start(command string, args ...string) *process {
	d.t.Helper()
	return start(d.t, append(append(strings.Fields(command), d.flags...), args...)...)
}

// up starts the whole house and waits until it is up; page is the address of its status page.
func (d *dataFolder) up(args ...string) (p *process, page string) {
	d.t.Helper()
	p = d.start("up", append([]string{"--http", "127.0.0.1:0"}, args...)...)
	return p, p.says(`status page +(http://\S+)`)[1]
}

// verifies runs `sluice verify`, which must find no breach.
func (d *dataFolder) verifies() {
	d.t.Helper()
	out := d.start("verify").ends(0)
	if !strings.Contains(out, "holds") {
		d.t.Fatalf("verify says nothing that holds:\n%s", out)
	}
}

// counter reads a counter from a status page's metrics, summed over its labels; false while the page is away.
func counter(page, name string) (float64, bool) {
	answer, err := http.Get(page + "/metrics")
	if err != nil {
		return 0, false
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, false
	}
	var sum float64
	for _, line := range strings.Split(string(body), "\n") {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		if n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64); err == nil {
			sum += n
		}
	}
	return sum, true
}

// reaches waits until a counter has reached a number.
func reaches(t *testing.T, page, name string, want float64) {
	t.Helper()
	limit := time.After(patience)
	for {
		got, ok := counter(page, name)
		if ok && got >= want {
			return
		}
		select {
		case <-limit:
			t.Fatalf("%s is %v, it did not reach %v", name, got, want)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs whole houses as processes; -short leaves it out")
	}
}

// The main job: everything on embedded engines, for a while, ends by itself; then nothing is lost or doubled.
func TestUpEndsByItselfAndVerifies(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := newData(t)
	out := d.start("up", "--http", "none", "--for", "5s", "--rate", "2000").ends(0)
	for _, want := range []string{"events published", "decided", "transfers posted", "rows in ClickHouse"} {
		if !strings.Contains(out, want) {
			t.Errorf("the summary does not say %q", want)
		}
	}
	d.verifies()
}

// A made-up day end to end, as a person runs it: the planted errors are found, and nothing is left behind but the files.
func TestASimulatedDay(t *testing.T) {
	t.Parallel()
	skipShort(t)
	out := t.TempDir()
	said := start(t, "simulate", "day", "--payments", "1000", "--errors", "30", "--seed", "7", "--out", out).ends(0)
	if !strings.Contains(said, "reconciliation found the 30 planted errors and nothing else") {
		t.Error("it does not say what was found")
	}
	files, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(files) != 5 {
		t.Errorf("%v are left, %v", files, err)
	}
	nothingLeft(t, out)
}

// Ten times kill -9 at random moments under load: nothing is lost or doubled, and no engine process is left behind.
func TestKillDashNine(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := newData(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 9))
	t.Logf("seed %d", seed)
	for range 10 {
		p := d.start("up", "--http", "none", "--rate", "2000")
		// A random moment: the start of the engines, the restore of state, or the middle of the load.
		select {
		case <-time.After(time.Duration(random.Int64N(int64(6 * time.Second)))):
		case <-p.done:
			t.Fatalf("up ended by itself:\n%s", p.output())
		}
		p.kill()
	}
	d.start("up", "--http", "none", "--for", "2s", "--rate", "500").ends(0)
	d.verifies()
	nothingLeft(t, d.dir)
}

// nothingLeft looks for processes whose command line names the data folder.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Log("no /proc here: processes left behind are not looked for")
		return
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(dir)) && !strings.Contains(file, strconv.Itoa(os.Getpid())) {
			t.Errorf("%s is left behind: %s", file, bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
}

// Parts as processes of their own, two of some; one of each is killed and replaced under load.
func TestPartsAsProcesses(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := newData(t)
	engines := d.start("engines")
	engines.says(`ready: kafka`)
	part := func(name string) *process {
		p := d.start("run "+name, "--http", "none")
		return p
	}
	gates := []*process{part("gate"), part("gate")}
	posters := []*process{part("poster"), part("poster")}
	warehouses := []*process{part("warehouse"), part("results tiers")}
	for _, p := range []*process{gates[0], gates[1], posters[0], posters[1], warehouses[0], warehouses[1]} {
		p.says(`ready: `)
	}
	load := d.start("simulate", "--rate", "1000")
	load.says(`publishing`)
	for _, victim := range []struct {
		name string
		p    *process
	}{{"gate", gates[0]}, {"poster", posters[0]}, {"warehouse", warehouses[0]}} {
		victim.p.kill()
		part(victim.name).says(`ready: `)
	}
	load.interrupt()
	load.ends(0)
	d.start("verify", "--wait").ends(0)
}

// A first event, sent as any Kafka client would, is found in Postgres and in ClickHouse; a second, broken one among the
// dead letters.
func TestFirstEvent(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := newData(t)
	_, page := d.up("--rate", "0")
	firstEvent(t, d)
	reaches(t, page, "sluice_gate_decisions_total", 2)
	reaches(t, page, "sluice_poster_transfers_total", 2)
	reaches(t, page, "sluice_deadletters_total", 1)
	var answer struct {
		Parts []any `json:"parts"`
	}
	response, err := http.Get(page + "/status.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || len(answer.Parts) == 0 {
		t.Fatalf("status.json names %d parts, %v", len(answer.Parts), err)
	}
	d.start("verify", "--wait").ends(0)
	out := d.start("deadletters list").ends(0)
	if !strings.Contains(out, "bad_amount") {
		t.Fatalf("the dead letter is not listed with its reason:\n%s", out)
	}
}

// A mistake is answered with one line that says what to do.
func TestMistakesAreAnswered(t *testing.T) {
	t.Parallel()
	cases := []struct {
		args string
		code int
		says string
	}{
		{"up --rat 3", 2, "unknown flag --rat"},
		{"up --rate=-1", 1, "--rate -1: give 0"},
		{"up --partitions 0", 1, "--partitions 0: give 1"},
		{"up --kafka nowhere --http none", 1, "give host:port"},
		{"up --postgres mysql://x --http none", 1, "postgres://user:password"},
		{"run gate --kafka 127.0.0.1:1", 1, "does not answer"},
		{"run poster --kafka 127.0.0.1:1 --postgres postgres://127.0.0.1:1/x", 1, "correct --kafka"},
		{"run geat", 1, `no part "geat": choose from gate, poster`},
		{"run gate --data /nonexistent", 1, "give --kafka"},
		{"simulate day --payments 5", 1, "give 1000 to 1000000"},
		{"simulate day --payments 1000 --errors 51", 1, "give 0 to 50"},
		{"simulate --rat 3", 2, "unknown flag --rat"},
		{"rules check nowhere.yaml", 1, "no such file"},
		{"postings check nowhere.yaml", 1, "give one, or a shipped pack: standard, rewards"},
		{"up --postings nowhere.yaml --http none", 1, "--postings nowhere.yaml: there is no such file"},
		{"run poster --postings go.mod", 1, "go.mod:1:1: posting rules are a mapping of postings:"},
		{"postings try --method cash", 1, "--method cash: give wallet, card"},
		{"postings try --amount 1.234", 1, "--amount 1.234: give an amount above zero in CNY"},
		{"replay --format csv x", 2, "must be one of"},
		{"model train --data main.go", 1, "--target"},
		{"model train --target a", 2, "--data"},
		{"model show nowhere.json", 1, "no such file"},
		{"model show main.go", 1, "is no model"},
		{"model train --from-warehouse nowhere", 1, "start `sluice up`"},
		{"lists add Deny x", 1, "use up to 64 small letters"},
		{"lists add deny 10.0.0.0/40 --kind cidr", 1, "203.0.113.0/24"},
		{"lists add deny x --expires tomorrow", 1, "2026-12-31"},
		{"lists add snooze x", 1, "card-testing/customer/C42"},
		{"rules snooze a customer=C1 --reason x --for 90x", 1, "write 30m, 24h or 90d"},
		{"lists show --data /nonexistent", 1, "give --kafka"},
		{"channels check nowhere.yaml", 1, "or the shipped one: standard"},
		{"channels check main.go", 1, "main.go:1:62: not YAML"},
		{"channels show --data /nonexistent", 1, "give --kafka"},
		{"channels route --amount 0 --data /nonexistent", 1, "--amount"},
		{"channels route --amount 1 --at 2026-13-01 --data /nonexistent", 1, `--at: "2026-13-01" is neither a day, as 2026-03-31, nor a time`},
		{"channels route --amount 1 --at 2026-03-01 --data /nonexistent", 1, "give --kafka"},
		{"channels show --at noon --data /nonexistent", 1, `--at: "noon" is neither a day`},
		{"settlement run --cutoff 2026-13-01 --data /nonexistent", 1, `--cutoff: "2026-13-01" is no day; write it as 2026-01-31`},
		{"settlement received 1 --on 2026-13-01 --data /nonexistent", 1, `--on: "2026-13-01" is no day`},
		{"explain payments/0/1 --data /nonexistent", 1, "give --clickhouse"},
		{"settlement check nowhere.yaml", 1, "there is no such file"},
		{"settlement check go.mod", 1, "go.mod"},
		{"settlement calendar --year 26", 1, "give 1970 to 9998"},
		{"settlement run --data /nonexistent", 1, "give --kafka"},
		{"settlement run --data /nonexistent --settlement nowhere.yaml", 1, "--settlement nowhere.yaml: there is no such file"},
	}
	for _, c := range cases {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			var out, errOut bytes.Buffer
			code := run(context.Background(), strings.Fields(c.args), &out, &errOut)
			if code != c.code || !strings.Contains(errOut.String(), c.says) {
				t.Fatalf("exit %d and %q; want %d and %q", code, errOut.String(), c.code, c.says)
			}
			if n := strings.Count(strings.TrimSpace(errOut.String()), "\n"); n > 1 {
				t.Fatalf("%d lines: %q", n+1, errOut.String())
			}
		})
	}
}

// addresses reads where the engines of a data folder are.
func (d *dataFolder) addresses() (a struct {
	Kafka                []string
	Postgres, ClickHouse string
}) {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, "addresses.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		d.t.Fatal(err)
	}
	for i, flag := range d.flags {
		if flag == "--kafka" {
			a.Kafka = strings.Split(d.flags[i+1], ",")
		}
	}
	return a
}

// prefix is what stands before the topics.
func (d *dataFolder) prefix() string {
	for i, flag := range d.flags {
		if flag == "--prefix" {
			return d.flags[i+1]
		}
	}
	return ""
}

// firstEvent sends a top-up and a purchase, and one event with too many decimals, as README shows: one JSON value each.
func firstEvent(t *testing.T, d *dataFolder) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(d.addresses().Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	now := strings.TrimSpace(d.start("now").ends(0))
	value := func(id, purpose, amount string) []byte {
		return fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"first","type":"payment.initiated","time":%q,
			"data":{"payment_id":%q,"customer_id":"ada","merchant_id":"books","method":"wallet","purpose":%q,"amount":%q,"currency":"CNY"}}`,
			id, now, id, purpose, amount)
	}
	for _, v := range [][]byte{value("f1", "top_up", "100.00"), value("f2", "purchase", "12.50"), value("f3", "purchase", "1.005")} {
		r := &kgo.Record{Topic: d.prefix() + "payments", Key: []byte("ada"), Value: v,
			Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}}
		if err := client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// amlsim is a data set in AMLSim's format, and what an independent sequential model says of it.
type amlsim struct {
	dir      string
	codes    []string // of each transfer, in file order
	balances map[string]int64
}

// newAMLSim reads a data set; the model knows nothing of sluice: a map of balances, one transfer after the other.
func newAMLSim(t *testing.T, dir string) *amlsim {
	t.Helper()
	a := &amlsim{dir: dir, balances: map[string]int64{}}
	for _, row := range csvRows(t, filepath.Join(dir, "nodes.csv")) {
		a.balances[row[0]] = cents(t, row[2])
	}
	for _, row := range csvRows(t, filepath.Join(dir, "transactions.csv")) {
		from, to, amount := row[0], row[1], cents(t, row[2])
		switch {
		case from == to:
			a.codes = append(a.codes, "same_account")
		case a.balances[from] < amount:
			a.codes = append(a.codes, "insufficient_funds")
		default:
			a.balances[from] -= amount
			a.balances[to] += amount
			a.codes = append(a.codes, "posted")
		}
	}
	return a
}

func csvRows(t *testing.T, file string) [][]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

// cents reads "163.3" as 16330.
func cents(t *testing.T, text string) int64 {
	t.Helper()
	whole, decimals, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole+(decimals + "00")[:2], 10, 64)
	if err != nil || len(decimals) > 2 {
		t.Fatalf("%q is no amount with two decimals: %v", text, err)
	}
	return n
}

// smallAMLSim writes a data set of the same kind, small enough for every run of the tests.
func smallAMLSim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	var nodes, transactions strings.Builder
	nodes.WriteString("nodeid,isFraud,init_balance,fraudStep\n")
	for i := range 200 {
		fmt.Fprintf(&nodes, "%d,0,%d.%02d,-1\n", i, random.IntN(200), random.IntN(100))
	}
	transactions.WriteString("sourceNodeId,targetNodeId,value,time\n")
	for i := range 3000 {
		fmt.Fprintf(&transactions, "%d,%d,%d.%d,%d\n", random.IntN(200), random.IntN(200), 1+random.IntN(150), random.IntN(10), 1+i/300)
	}
	for name, text := range map[string]string{"nodes.csv": nodes.String(), "transactions.csv": transactions.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sharedAMLSim(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("..", "shared", "data", "amlsim")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no AMLSim data set at %s; the small one stands for it", dir)
	}
	return dir
}

// With one partition the whole order is known: each transfer is accepted or rejected as the sequential model says, and
// every balance ends the same.
func TestReplayEqualsTheSequentialModel(t *testing.T) {
	t.Parallel()
	skipShort(t)
	f := func(name string, dir func(*testing.T) string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAMLSim(t, dir(t))
			d := newData(t)
			out := d.start("replay", a.dir, "--format", "amlsim", "--partitions", "1").ends(0)
			t.Log(out)
			d.verifies()
			d.start("engines").says(`ready: kafka`)
			conn, err := pgx.Connect(t.Context(), d.addresses().Postgres)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(context.Background()) }()
			compareCodes(t, conn, a)
			compareBalances(t, conn, a)
		})
	}
	f("small", smallAMLSim)
	f("shared", sharedAMLSim)
}

func compareCodes(t *testing.T, conn *pgx.Conn, a *amlsim) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT code FROM results WHERE event_id LIKE 'amlsim-tx-%' ORDER BY shard, sequence")
	if err != nil {
		t.Fatal(err)
	}
	codes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(codes) != len(a.codes) {
		t.Fatalf("%d results, the model has %d", len(codes), len(a.codes))
	}
	for i := range codes {
		if codes[i] != a.codes[i] {
			t.Fatalf("transfer %d: %s, the model says %s", i+1, codes[i], a.codes[i])
		}
	}
}

func compareBalances(t *testing.T, conn *pgx.Conn, a *amlsim) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT key, credits_posted - debits_posted FROM accounts WHERE key LIKE 'wallet:%'")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var key string
	var balance int64
	if _, err := pgx.ForEachRow(rows, []any{&key, &balance}, func() error {
		seen++
		node := strings.TrimPrefix(strings.Split(key, ":")[1], "aml-")
		if a.balances[node] != balance {
			t.Errorf("%s has %d, the model says %d", key, balance, a.balances[node])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if seen < len(a.balances)/2 {
		t.Errorf("only %d wallets of %d", seen, len(a.balances))
	}
}

// With twelve partitions the order between customers is free, but money is conserved to the cent.
func TestReplayConservesMoney(t *testing.T) {
	t.Parallel()
	skipShort(t)
	a := newAMLSim(t, smallAMLSim(t))
	var want int64
	for _, row := range csvRows(t, filepath.Join(a.dir, "nodes.csv")) {
		want += cents(t, row[2])
	}
	d := newData(t)
	d.start("replay", a.dir, "--format", "amlsim", "--partitions", "12").ends(0)
	d.verifies()
	d.start("engines").says(`ready: kafka`)
	conn, err := pgx.Connect(t.Context(), d.addresses().Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var wallets, lowest int64
	if err := conn.QueryRow(t.Context(), "SELECT sum(credits_posted - debits_posted)::bigint, min(credits_posted - debits_posted)::bigint FROM accounts WHERE key LIKE 'wallet:%'").Scan(&wallets, &lowest); err != nil {
		t.Fatal(err)
	}
	if wallets != want || lowest < 0 {
		t.Fatalf("the wallets hold %d, %d went in; the lowest holds %d", wallets, want, lowest)
	}
}

// The session in docs/rulebook.md is what one sees who types it.
func TestRulebookSession(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/rulebook.md")
	if err != nil {
		t.Fatal(err)
	}
	folder, blocks := t.TempDir(), fenced(t, string(doc), "yaml")
	for i, name := range []string{"fraud.yaml", "fraud_test.yaml"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(blocks[i]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env := enginestest.New(t, enginestest.Kafka, enginestest.Postgres)
	engines := []string{"--kafka", strings.Join(env.Kafka, ","), "--prefix", env.Prefix, "--postgres", env.PostgresURL, "--data", t.TempDir()}
	session := fenced(t, string(doc), "console")[0]
	var seen strings.Builder
	for line := range strings.Lines(session) {
		command, ok := strings.CutPrefix(line, "$ sluice ")
		if !ok {
			continue
		}
		seen.WriteString(line)
		args := words.FindAllString(strings.TrimSpace(command), -1)
		for i := range args {
			if args[i] = strings.Trim(args[i], `"`); strings.HasSuffix(args[i], ".yaml") {
				args[i] = filepath.Join(folder, args[i])
			}
		}
		run(t.Context(), append(args, engines...), &seen, &seen)
	}
	// When it happened, and the version of the shipped pack, are not the session's point.
	vary := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|default@\d+`)
	if got, want := vary.ReplaceAllString(seen.String(), "…"), vary.ReplaceAllString(session, "…"); got != want {
		t.Errorf("the session is\n%s\nthe document says\n%s", got, want)
	}
}

// words splits a command line at spaces outside quotes.
var words = regexp.MustCompile(`"[^"]*"|\S+`)

// fenced returns the blocks of a Markdown document in a language.
func fenced(t *testing.T, doc, language string) []string {
	t.Helper()
	var blocks []string
	for _, part := range strings.Split(doc, "```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	if len(blocks) == 0 {
		t.Fatalf("there is no block of %s", language)
	}
	return blocks
}
