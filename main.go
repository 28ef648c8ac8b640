// Command sluice is a streaming risk and payments pipeline: `sluice up` runs all of it, `sluice --help` says the rest.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"sluice/consumers/deadletter"
	"sluice/deploy/books"
	"sluice/deploy/config"
	"sluice/deploy/day"
	"sluice/deploy/embedded"
	"sluice/deploy/house"
	"sluice/deploy/reconciliation"
	"sluice/deploy/rulebook"
	"sluice/deploy/settlement"
	"sluice/deploy/verify"
	"sluice/pipelines/models"
	simulated "sluice/producers/simulator/day"
	"sluice/rules"
	"sluice/rules/life"
	"sluice/rules/lists"
)

func main() {
	embedded.ClickHouseChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commands is the command line.
type commands struct {
	Up          upCommand          `cmd:"" help:"Run everything: engines, all parts, simulated channels."`
	Run         runCommand         `cmd:"" help:"Run one or more parts as this process, against given engines: gate, poster, results, warehouse, tiers, or all."`
	Engines     enginesCommand     `cmd:"" help:"Run the embedded engines alone, for parts in other processes."`
	Simulate    simulateCommand    `cmd:"" help:"Publish the events of simulated channels; or run a made-up day end to end."`
	Replay      replayCommand      `cmd:"" help:"Publish recorded events: JSON lines of CloudEvents, or an AMLSim folder; an interrupted one goes on where it stopped."`
	Verify      verifyCommand      `cmd:"" help:"Prove what is promised on the running system; exit 1 on any breach."`
	Rules       rulesCommand       `cmd:"" help:"Check a ruleset, publish it, print the live one."`
	Postings    postingsCommand    `cmd:"" help:"Check posting rules, print them as a table, try them on one payment."`
	Explain     explainCommand     `cmd:"" help:"Print why an event was decided as it was: rules, conditions, values, lists, the path to the verdict."`
	Lists       listsCommand       `cmd:"" help:"Add to, remove from, show and import allow, deny and watch lists."`
	Channels    channelsCommand    `cmd:"" help:"Check, publish and show payment channels; ask which one would carry a payment."`
	Deadletters deadlettersCommand `cmd:"" help:"List or replay what could not be read or applied."`
	Model       modelCommand       `cmd:"" help:"Train a scorecard or a logistic regression, print a model, score rows with it."`
	Reconcile   reconcileCommand   `cmd:"" help:"Match a channel's statement with the book; list and resolve what does not match."`
	Settlement  settlementCommand  `cmd:"" help:"Settle: what merchants are paid and payment channels owe at each cut-off; payout files; calendars."`
	Now         nowCommand         `cmd:"" help:"Print the house's time: that of the newest event in the book. A test event of that time makes nothing run out."`
	Config      configCommand      `cmd:"" help:"Print every setting, its environment variable and its value."`
	Bench       benchCommand       `cmd:"" help:"Measure, beside a plain alternative on the same engine in the same run."`
	Ledger      ledgerCommand      `cmd:"" help:"Look into the book: accounts, statements, trial balance, proof; close a period; simulate it."`
	Payments    paymentsCommand    `cmd:"" help:"Look at payments: one, what is stuck, open disputes."`
}

// environment is what every command is given.
type environment struct {
	ctx      context.Context
	out, err io.Writer
}

// run parses and runs one command line; it returns the exit code: 0 fine, 1 failed, 2 not understood.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c, kong.Name("sluice"), kong.Writers(out, errOut), kong.Exit(func(code int) { exit = code }),
		kong.Vars{"user": userName()},
		kong.Description("A streaming risk and payments pipeline: Kafka in, decided by rules, posted to Postgres, counted in ClickHouse, each exactly once."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ExplicitGroups([]kong.Group{{Key: "engines", Title: "Engines:"}, {Key: "deciding", Title: "Deciding:"},
			{Key: "simulating", Title: "Simulating:"}, {Key: "watching", Title: "Watching:"}}))
	if err != nil {
		panic(err) // a mistake in the struct tags above
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help has been printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(errOut, "sluice: %v; see sluice --help\n", err)
		return 2
	}
	if err := command.Run(&environment{ctx, out, errOut}); err != nil {
		if !errors.Is(err, errSaid) {
			fmt.Fprintf(errOut, "sluice: %v\n", err)
		}
		return 1
	}
	return 0
}

// errSaid ends a command with exit code 1 that has said everything already.
var errSaid = errors.New("said")

type upCommand struct {
	config.Config
	config.Simulation
	For time.Duration `help:"Stop by itself after this long, when everything published has been decided, posted and counted." placeholder:"60s"`
}

func (c *upCommand) Run(e *environment) error {
	return house.Up(e.ctx, c.Config, house.UpOptions{Simulation: c.Simulation, For: c.For, Out: e.out, Log: c.Logger(e.err)})
}

type runCommand struct {
	config.Config
	Parts []string `arg:"" help:"gate, poster, results, warehouse, tiers, or all."`
}

func (c *runCommand) Run(e *environment) error {
	if len(c.Parts) == 1 && c.Parts[0] == "all" {
		c.Parts = house.PartNames()
	}
	return house.RunParts(e.ctx, c.Config, c.Parts, e.out, c.Logger(e.err))
}

type enginesCommand struct{ config.Config }

func (c *enginesCommand) Run(e *environment) error {
	return house.RunEngines(e.ctx, c.Config, e.out, c.Logger(e.err))
}

type simulateCommand struct {
	Channels simulateChannelsCommand `cmd:"" default:"withargs" help:"Publish the events of simulated channels to a house that runs."`
	Day      simulateDayCommand      `cmd:"" help:"Run a made-up day through a house of its own: payments, their channels' statements with planted errors, reconciliation; exit 1 unless it finds exactly those."`
}

type simulateChannelsCommand struct {
	config.Config
	config.Simulation
	For time.Duration `help:"Stop after this long." placeholder:"60s"`
}

func (c *simulateChannelsCommand) Run(e *environment) error {
	return house.Simulate(e.ctx, c.Config, house.UpOptions{Simulation: c.Simulation, For: c.For, Out: e.out, Log: c.Logger(e.err)})
}

type simulateDayCommand struct {
	config.Config
	Payments int       `help:"How many payments." default:"100000"`
	Seed     uint64    `help:"The same seed gives the same day." default:"1"`
	Errors   int       `help:"How many errors to plant in the statements." default:"100"`
	Date     time.Time `help:"The day. Default: 2026-03-02." format:"2006-01-02" placeholder:"DATE"`
	Out      string    `help:"Folder in which the statements, the list of errors and the ruleset stay." placeholder:"FOLDER"`
	JSON     bool      `name:"json" help:"Print JSON instead of a table."`
}

func (c *simulateDayCommand) Run(e *environment) error {
	if c.Data == config.DefaultData { // not the house one works with: a temporary one, beside whatever runs
		c.Data, c.KafkaPort, c.PostgresPort, c.ClickHousePort, c.ClickHouseHTTPPort = "", 0, 0, 0, 0
	}
	report, err := day.Run(e.ctx, day.Options{Config: c.Config, Day: simulated.Config{Seed: c.Seed, Payments: c.Payments, Errors: c.Errors, Date: c.Date}, Out: c.Out,
		Progress: house.Progress(e.err), Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	if c.JSON {
		err = report.JSON(e.out)
	} else {
		err = report.Table(e.out)
	}
	return failedSaid(report.OK(), err)
}

type replayCommand struct {
	config.Config
	Path   string `arg:"" help:"A file of CloudEvents, one JSON object a line ('-' is standard input), or the folder of an AMLSim data set."`
	Format string `help:"events or amlsim." default:"events" enum:"events,amlsim"`
	Speed  int    `help:"Events a second at most; 0 is no limit."`
}

func (c *replayCommand) Run(e *environment) error {
	return house.Replay(e.ctx, c.Config, house.ReplayOptions{Path: c.Path, Format: c.Format, Rate: c.Speed, Out: e.out, Err: e.err, Log: c.Logger(e.err)})
}

type verifyCommand struct {
	config.Config
	JSON bool `name:"json" help:"Print JSON instead of a table."`
	Wait bool `help:"First wait until what had been published when it starts has been decided, posted and counted by the parts that run; what is published later does not matter."`
}

func (c *verifyCommand) Run(e *environment) error {
	h, err := house.Open(e.ctx, c.Config, house.Options{Attach: true, Embed: true, Existing: true, Progress: house.Progress(e.err), Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	if c.Wait {
		if err := h.CatchUp(e.ctx, func(int64) {}); err != nil {
			return err
		}
	}
	report, err := verify.Run(e.ctx, verify.Config{Config: h.Stream("verify"), Postgres: h.Addresses.Postgres, ClickHouse: h.Addresses.ClickHouse, Progress: house.Line(e.err)})
	if err != nil {
		return err
	}
	if c.JSON {
		err = report.JSON(e.out)
	} else {
		err = report.Table(e.out)
	}
	if err == nil && !report.OK() {
		return errSaid
	}
	return err
}

type rulesCommand struct {
	rulesLifeCommands
	Check   rulesCheckCommand   `cmd:"" help:"Check a ruleset; each mistake with file, line, column and a suggestion."`
	Publish rulesPublishCommand `cmd:"" help:"Check a ruleset and make it live on every gate."`
	Show    rulesShowCommand    `cmd:"" help:"Print the live ruleset."`
	Snooze  rulesSnoozeCommand  `cmd:"" help:"Stop one rule for one customer, card, device, … for a time."`
	Schema  rulesSchemaCommand  `cmd:"" help:"Print the JSON Schema of ruleset files, for editors."`
}

type rulesCheckCommand struct {
	File string `arg:"" help:"A file, or a shipped pack: default, fraud, credit, aml, sanctions, compliance, empty."`
}

func (c *rulesCheckCommand) Run(e *environment) error {
	source, err := house.LoadRuleset(c.File)
	if err != nil {
		return err
	}
	rs, err := rules.Check(c.File, source)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s is fine: ruleset %s\n", c.File, rs.ID())
	return nil
}

type rulesPublishCommand struct {
	rulesOrder
	File string `arg:"" help:"A file, or a shipped pack: default, fraud, credit, aml, sanctions, compliance, empty."`
}

func (c *rulesPublishCommand) Run(e *environment) error {
	return c.open(e, func(b *rulebook.Book) error {
		return house.PublishUnreviewed(e.ctx, b, rulebook.Submission{File: c.File, By: c.By, Why: c.Why}, e.out)
	})
}

type rulesShowCommand struct {
	config.Config
	Version string `arg:"" optional:"" help:"NAME@VERSION. Default: what is live."`
}

func (c *rulesShowCommand) Run(e *environment) error {
	if c.Version != "" {
		return house.WithRulebook(e.ctx, c.Config, c.Logger(e.err), func(b *rulebook.Book) error {
			source, err := house.RulesetText(e.ctx, b, c.Version)
			if err == nil {
				_, err = e.out.Write(source)
			}
			return err
		})
	}
	h, err := house.Open(e.ctx, c.Config, house.Options{Needs: house.Kafka, Attach: true, Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	live, err := h.LiveRuleset(e.ctx)
	if err == nil {
		_, err = e.out.Write(live)
	}
	return err
}

// rulesLifeCommands are the steps of a ruleset's life; see docs/rulebook.md.
type rulesLifeCommands struct {
	Submit   rulesSubmitCommand   `cmd:"" help:"Take a new version into the rulebook, checked."`
	Test     rulesTestCommand     `cmd:"" help:"Run the cases that stand beside a ruleset; of a version of the rulebook, write down whether they pass."`
	Backtest rulesBacktestCommand `cmd:"" help:"Run recorded events again through a ruleset, and report how well it tells fraud from good."`
	Shadow   rulesShadowCommand   `cmd:"" help:"Let a version decide beside the live one, without effect."`
	Approve  rulesApproveCommand  `cmd:"" help:"Approve a tested version that somebody else wrote."`
	Reject   rulesRejectCommand   `cmd:"" help:"Refuse a version that somebody else wrote, for good."`
	Withdraw rulesWithdrawCommand `cmd:"" help:"Give up a version of one's own, for good."`
	Promote  rulesPromoteCommand  `cmd:"" help:"Make an approved version live on every gate."`
	Rollback rulesRollbackCommand `cmd:"" help:"Make live again what was live before; needs no approval."`
	History  rulesHistoryCommand  `cmd:"" help:"Who did what and why; exit 1 if the audit was tampered with."`
	Status   rulesStatusCommand   `cmd:"" help:"What is live, in shadow, and waiting for whom; finishes what a crash left unpublished."`
	Diff     rulesDiffCommand     `cmd:"" help:"Compare two versions: rules added, removed, changed."`
}

// rulesOrder is what every step takes.
type rulesOrder struct {
	config.Config
	author
	Why string `help:"The reason, for the audit." placeholder:"TEXT"`
}

func (c *rulesOrder) open(e *environment, do func(*rulebook.Book) error) error {
	return house.WithRulebook(e.ctx, c.Config, c.Logger(e.err), do)
}

// step carries out an order and says where the version then stands.
func (c *rulesOrder) step(e *environment, version string, do func(*rulebook.Book, life.Ref) (life.Version, error)) error {
	var ref life.Ref
	if version != "" {
		var err error
		if ref, err = life.ParseRef(version); err != nil {
			return err
		}
	}
	return c.open(e, func(b *rulebook.Book) error {
		v, err := do(b, ref)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s is %s", v.Ref, v.Status.Words())
		if waits := rulebook.WaitsFor(&v); waits != "" {
			fmt.Fprintf(e.out, "; it waits for %s", waits)
		}
		fmt.Fprintln(e.out)
		return nil
	})
}

// rulesVersionOrder is what a step of one version takes.
type rulesVersionOrder struct {
	rulesOrder
	Version string `arg:"" help:"NAME@VERSION, such as fraud@3."`
}

type rulesSubmitCommand struct {
	rulesOrder
	File     string `arg:"" help:"A file, or a shipped pack: default, fraud, credit, aml, sanctions, compliance, empty."`
	Renumber bool   `help:"Write the next version number into the rulebook's copy instead of refusing another."`
}

func (c *rulesSubmitCommand) Run(e *environment) error {
	return c.step(e, "", func(b *rulebook.Book, _ life.Ref) (life.Version, error) {
		return house.SubmitRuleset(e.ctx, b, rulebook.Submission{File: c.File, By: c.By, Why: c.Why, Renumber: c.Renumber})
	})
}

type rulesShadowCommand struct {
	rulesVersionOrder
	End bool `help:"End its shadow."`
}

func (c *rulesShadowCommand) Run(e *environment) error {
	return c.step(e, c.Version, func(b *rulebook.Book, ref life.Ref) (life.Version, error) {
		if c.End {
			return b.Unshadow(e.ctx, ref, c.By, c.Why)
		}
		return b.Shadow(e.ctx, ref, c.By, c.Why)
	})
}

type rulesApproveCommand struct{ rulesVersionOrder }

func (c *rulesApproveCommand) Run(e *environment) error {
	return c.step(e, c.Version, func(b *rulebook.Book, ref life.Ref) (life.Version, error) {
		return b.Approve(e.ctx, ref, c.By, c.Why)
	})
}

type rulesRejectCommand struct{ rulesVersionOrder }

func (c *rulesRejectCommand) Run(e *environment) error {
	return c.step(e, c.Version, func(b *rulebook.Book, ref life.Ref) (life.Version, error) {
		return b.Reject(e.ctx, ref, c.By, c.Why)
	})
}

type rulesWithdrawCommand struct{ rulesVersionOrder }

func (c *rulesWithdrawCommand) Run(e *environment) error {
	return c.step(e, c.Version, func(b *rulebook.Book, ref life.Ref) (life.Version, error) {
		return b.Withdraw(e.ctx, ref, c.By, c.Why)
	})
}

type rulesPromoteCommand struct{ rulesVersionOrder }

func (c *rulesPromoteCommand) Run(e *environment) error {
	return c.step(e, c.Version, func(b *rulebook.Book, ref life.Ref) (life.Version, error) {
		over, err := b.Live(e.ctx)
		if err != nil {
			return life.Version{}, err
		}
		return b.Promote(e.ctx, ref, over, c.By, c.Why)
	})
}

type rulesRollbackCommand struct {
	rulesOrder
	To string `help:"A version that has been live. Default: what was live before." placeholder:"NAME@VERSION"`
}

func (c *rulesRollbackCommand) Run(e *environment) error {
	return c.step(e, c.To, func(b *rulebook.Book, to life.Ref) (life.Version, error) {
		over, err := b.Live(e.ctx)
		if err != nil {
			return life.Version{}, err
		}
		return b.Rollback(e.ctx, to, over, c.By, c.Why)
	})
}

type rulesHistoryCommand struct {
	config.Config
	Name string `arg:"" optional:"" help:"A ruleset. Default: all."`
	JSON bool   `name:"json" help:"Print JSON instead of a table."`
}

func (c *rulesHistoryCommand) Run(e *environment) error {
	return house.WithRulebook(e.ctx, c.Config, c.Logger(e.err), func(b *rulebook.Book) error {
		h, err := b.History(e.ctx, c.Name)
		if err != nil {
			return err
		}
		if c.JSON {
			err = h.JSON(e.out)
		} else {
			err = h.Table(e.out)
		}
		if err == nil && len(h.Breaches) > 0 {
			return errSaid
		}
		return err
	})
}

type rulesStatusCommand struct{ config.Config }

func (c *rulesStatusCommand) Run(e *environment) error {
	return house.WithRulebook(e.ctx, c.Config, c.Logger(e.err), func(b *rulebook.Book) error {
		s, err := b.Status(e.ctx)
		if err != nil {
			return err
		}
		return s.Table(e.out)
	})
}

type rulesDiffCommand struct {
	config.Config
	Before string `arg:"" help:"NAME@VERSION, live, a file or a shipped pack."`
	After  string `arg:"" help:"The same."`
}

func (c *rulesDiffCommand) Run(e *environment) error {
	return house.WithRulebook(e.ctx, c.Config, c.Logger(e.err), func(b *rulebook.Book) error {
		before, err := house.RulesetText(e.ctx, b, c.Before)
		if err != nil {
			return err
		}
		after, err := house.RulesetText(e.ctx, b, c.After)
		if err != nil {
			return err
		}
		changes, err := life.Diff(before, after)
		if err == nil {
			life.PrintDiff(e.out, changes)
		}
		return err
	})
}

type deadlettersCommand struct {
	List   deadlettersListCommand   `cmd:"" help:"List dead letters: when, where, why."`
	Replay deadlettersReplayCommand `cmd:"" help:"Publish dead letters again, as they came, where they came from."`
}

type deadlettersListCommand struct{ config.Config }

func (c *deadlettersListCommand) Run(e *environment) error {
	return withDeadLetters(e, c.Config, func(d deadletter.Config) error { return deadletter.Print(e.ctx, d, e.out) })
}

type deadlettersReplayCommand struct {
	config.Config
	Reason string `help:"Only those with this reason."`
}

func (c *deadlettersReplayCommand) Run(e *environment) error {
	return withDeadLetters(e, c.Config, func(d deadletter.Config) error {
		n, err := deadletter.Replay(e.ctx, d, c.Reason)
		if err == nil {
			fmt.Fprintf(e.out, "%d published again\n", n)
		}
		return err
	})
}

func withDeadLetters(e *environment, c config.Config, do func(deadletter.Config) error) error {
	h, err := house.Open(e.ctx, c, house.Options{Needs: house.Kafka, Attach: true, Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	return do(deadletter.Config{Config: h.Stream("deadletter")})
}

type configCommand struct {
	config.Config
	config.Simulation
}

func (c *configCommand) Run(e *environment) error {
	if strings.TrimSpace(c.HTTP) == "" {
		c.HTTP = config.DefaultHTTP
	}
	return config.Print(e.out, &c.Config, &c.Simulation)
}

type nowCommand struct{ config.Config }

func (c *nowCommand) Run(e *environment) error {
	h, err := house.Open(e.ctx, c.Config, house.Options{Needs: house.Postgres, Attach: true, Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	now, err := h.Now(e.ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, now.Format(time.RFC3339))
	return nil
}

type postingsCommand struct {
	Check   postingsCheckCommand   `cmd:"" help:"Check posting rules; each mistake with file, line, column and what to write instead."`
	Show    postingsShowCommand    `cmd:"" help:"Print who pays whom, and which transfers follow from each moment."`
	History postingsHistoryCommand `cmd:"" help:"Print by which rules the book was posted, since when, and who said so."`
	Try     postingsTryCommand     `cmd:"" help:"Print what rules post when a payment moves, is settled, refunded, charged back or voided."`
}

type postingsCheckCommand struct {
	File string `arg:"" help:"A file, or a shipped pack: standard, rewards."`
}

func (c *postingsCheckCommand) Run(e *environment) error {
	r, err := house.LoadPostings(c.File)
	if err == nil {
		fmt.Fprintf(e.out, "%s is fine: posting rules %s, checksum %s\n", c.File, r.ID(), r.Checksum())
	}
	return err
}

type postingsShowCommand struct {
	config.Config
	File string `arg:"" optional:"" help:"A file, or a shipped pack: standard, rewards. Default: what the book of the house is posted by; without a house, what a new one would post by."`
}

func (c *postingsShowCommand) Run(e *environment) error {
	if c.File != "" {
		return house.ShowPostings(c.File, e.out)
	}
	return house.ShowBookPostings(e.ctx, c.Config, e.out, c.Logger(e.err))
}

type postingsHistoryCommand struct{ config.Config }

func (c *postingsHistoryCommand) Run(e *environment) error {
	return house.PostingHistory(e.ctx, c.Config, e.out, c.Logger(e.err))
}

type postingsTryCommand struct {
	File     string `arg:"" optional:"" help:"A file, or a shipped pack: standard, rewards." env:"SLUICE_POSTINGS"`
	Purpose  string `help:"top_up, transfer, purchase, withdrawal or payout." default:"purchase"`
	Method   string `help:"wallet, card, bank_transfer or quick_pay." default:"wallet"`
	Amount   string `help:"In major units." default:"100"`
	Currency string `help:"ISO 4217 code." default:"CNY"`
	Tier     string `help:"The customer's value tier." default:""`
}

func (c *postingsTryCommand) Run(e *environment) error {
	return house.TryPostings(house.PostingTrial{Rules: c.File, Purpose: c.Purpose, Method: c.Method, Amount: c.Amount, Currency: c.Currency, Tier: c.Tier}, e.out)
}

type listsCommand struct {
	Add    listsAddCommand    `cmd:"" help:"Put an entry on a list; every gate knows it within a second."`
	Remove listsRemoveCommand `cmd:"" help:"Take an entry off a list."`
	Show   listsShowCommand   `cmd:"" help:"Print the lists, or the entries of one."`
	Import listsImportCommand `cmd:"" help:"Put every line of a CSV file on a list, or none: value,kind,reason,expires."`
}

// author is who changes something.
type author struct {
	By string `help:"Who does it; it is written down." default:"${user}" env:"SLUICE_USER" placeholder:"NAME"`
}

type listsAddCommand struct {
	config.Config
	author
	List    string `arg:"" help:"Name of the list."`
	Value   string `arg:"" help:"What is listed."`
	Kind    string `help:"value (this very value), cidr (an IP block), prefix (whatever starts with it) or name (names like it)." default:"value" enum:"value,cidr,prefix,name"`
	Reason  string `help:"Why, for whoever comes across it."`
	Expires string `help:"The last day it counts (2026-12-31, UTC), or a time (2026-12-31T18:00:00Z)."`
}

func (c *listsAddCommand) Run(e *environment) error {
	entry, err := house.NewEntry(c.List, c.Kind, c.Value, c.Reason, c.By, c.Expires)
	if err != nil {
		return err
	}
	return withKafka(e, c.Config, func(h *house.House) error {
		if err := h.AddToLists(e.ctx, []lists.Entry{entry}, nil); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s %s is on the list %s\n", entry.Kind, entry.Value, entry.List)
		warn(e, h.AskedList(e.ctx, c.List))
		return nil
	})
}

type listsRemoveCommand struct {
	config.Config
	List  string `arg:"" help:"Name of the list."`
	Value string `arg:"" help:"What is listed."`
	Kind  string `help:"value, cidr, prefix or name." default:"value" enum:"value,cidr,prefix,name"`
}

func (c *listsRemoveCommand) Run(e *environment) error {
	kind, err := lists.ParseKind(c.Kind)
	if err != nil {
		return err
	}
	entry, err := lists.New(c.List, kind, c.Value)
	if err != nil {
		return err
	}
	return withKafka(e, c.Config, func(h *house.House) error {
		if err := h.RemoveFromList(e.ctx, entry); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s %s is off the list %s\n", entry.Kind, entry.Value, entry.List)
		return nil
	})
}

type listsShowCommand struct {
	config.Config
	List string `arg:"" optional:"" help:"Name of the list; without it, all lists and their sizes."`
}

func (c *listsShowCommand) Run(e *environment) error {
	return withKafka(e, c.Config, func(h *house.House) error { return h.ShowLists(e.ctx, e.out, c.List) })
}

type listsImportCommand struct {
	config.Config
	author
	List string `arg:"" help:"Name of the list."`
	File string `arg:"" help:"CSV file; its first line is value,kind,reason,expires, of which only value must be there."`
}

func (c *listsImportCommand) Run(e *environment) error {
	return withKafka(e, c.Config, func(h *house.House) error {
		draw := house.Progress(e.err)
		n, err := h.ImportList(e.ctx, c.List, c.File, c.By, func(done, total int64) { draw("publishing", done, total) })
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%d entries are on the list %s\n", n, c.List)
		warn(e, h.AskedList(e.ctx, c.List))
		return nil
	})
}

type rulesSnoozeCommand struct {
	config.Config
	author
	Rule   string `arg:"" help:"Id of a rule of the live ruleset."`
	Entity string `arg:"" help:"FIELD=VALUE, such as customer=C42."`
	For    string `help:"For how long, as rulesets write it: 30m, 24h, 90d." default:"24h"`
	Reason string `help:"Why." required:""`
}

func (c *rulesSnoozeCommand) Run(e *environment) error {
	span, ok := rules.ParseSpan(c.For)
	if !ok {
		return fmt.Errorf("--for %q is no length of time; write 30m, 24h or 90d", c.For)
	}
	return withKafka(e, c.Config, func(h *house.House) error {
		entry, err := h.Snooze(e.ctx, c.Rule, c.Entity, span, c.Reason, c.By)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s does not fire for %s until %s; `sluice lists remove %s %s` ends it before\n", c.Rule, c.Entity,
			entry.Expires.Format(time.RFC3339), entry.List, entry.Value)
		return nil
	})
}

// channelsCommand is about payment channels; see docs/channels.md.
type channelsCommand struct {
	Check   channelsCheckCommand   `cmd:"" help:"Check a file of payment channels."`
	Publish channelsPublishCommand `cmd:"" help:"Let every gate choose by a file, from its next transaction on."`
	Off     channelsOffCommand     `cmd:"" help:"Let gates choose no payment channel any more."`
	Show    channelsShowCommand    `cmd:"" help:"Print the channels that gates choose from, each with how it fares."`
	Route   channelsRouteCommand   `cmd:"" help:"Print which channel would carry a payment, and what speaks for and against each."`
}

type channelsCheckCommand struct {
	File string `arg:"" help:"A file, or the shipped one: standard."`
}

func (c *channelsCheckCommand) Run(e *environment) error {
	table, err := house.LoadChannels(c.File)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s: %d channels, %d rules\n", table.ID(), len(table.Channels), len(table.Rules))
	return nil
}

type channelsPublishCommand struct {
	config.Config
	author
	File string `arg:"" help:"A file, or the shipped one: standard."`
}

func (c *channelsPublishCommand) Run(e *environment) error {
	table, err := house.LoadChannels(c.File)
	if err != nil {
		return err
	}
	return withKafka(e, c.Config, func(h *house.House) error {
		if err := h.PublishChannels(e.ctx, table, c.By); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "gates choose by %s\n", table.ID())
		return nil
	})
}

type channelsOffCommand struct {
	config.Config
	author
}

func (c *channelsOffCommand) Run(e *environment) error {
	return withKafka(e, c.Config, func(h *house.House) error { return h.EndChannels(e.ctx, c.By) })
}

type channelsShowCommand struct {
	config.Config
	At string `help:"How they fared at the end of a day (2026-03-31, UTC), or at a time (2026-03-31T18:00:00Z). Default: at the newest payment event." placeholder:"TIME"`
}

func (c *channelsShowCommand) Run(e *environment) error {
	at, err := momentOf("--at", c.At)
	if err != nil {
		return err
	}
	return withEngines(e, c.Config, house.Kafka|house.ClickHouse, func(h *house.House) error { return h.ShowChannels(e.ctx, e.out, at) })
}

// momentOf reads an option that is a day, for its end, or a time; the zero time for none.
func momentOf(option, text string) (time.Time, error) {
	at, err := books.ParseAt(text)
	if err != nil {
		return at, fmt.Errorf("%s: %w", option, err)
	}
	return at, nil
}

// dayOf reads an option that is a day; the zero time for none.
func dayOf(option, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return day, fmt.Errorf("%s: %q is no day; write it as 2026-01-31", option, text)
	}
	return day, nil
}

type channelsRouteCommand struct {
	config.Config
	Method   string `help:"card, bank_transfer, quick_pay or wallet." default:"card"`
	Purpose  string `help:"purchase, transfer, top_up, withdrawal or payout." default:"purchase"`
	Amount   string `help:"Major units, such as 100.00." required:""`
	Currency string `help:"ISO 4217 code." default:"CNY"`
	At       string `help:"By the hours and the answers at the end of a day (2026-03-31, UTC), or at a time (2026-03-31T18:00:00Z). Default: at the newest payment event." placeholder:"TIME"`
	Payment  string `help:"Id of the payment: it decides whether the payment explores." placeholder:"ID"`
	Ask      string `help:"The channel that the payment asks for." placeholder:"CHANNEL"`
	File     string `help:"Choose by this file instead of what is published." placeholder:"FILE|standard"`
}

func (c *channelsRouteCommand) Run(e *environment) error {
	at, err := momentOf("--at", c.At)
	if err != nil {
		return err
	}
	q := house.RouteQuestion{Method: c.Method, Purpose: c.Purpose, Amount: c.Amount, Currency: c.Currency, At: at, Payment: c.Payment, Channel: c.Ask, File: c.File}
	if err := q.Check(); err != nil {
		return err
	}
	return withEngines(e, c.Config, house.Kafka|house.ClickHouse, func(h *house.House) error { return h.AskRoute(e.ctx, e.out, q) })
}

// withKafka does something with the running house's Kafka.
func withKafka(e *environment, c config.Config, do func(*house.House) error) error {
	return withEngines(e, c, house.Kafka, do)
}

// withEngines does something with engines of the running house.
func withEngines(e *environment, c config.Config, needs house.Engine, do func(*house.House) error) error {
	h, err := house.Open(e.ctx, c, house.Options{Needs: needs, Attach: true, Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	return do(h)
}

// warn tells the user what is probably not meant.
func warn(e *environment, text string) {
	if text != "" {
		fmt.Fprintf(e.err, "note: %s\n", text)
	}
}

// userName is who runs the command, as far as the system knows.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

type rulesSchemaCommand struct{}

func (c *rulesSchemaCommand) Run(e *environment) error {
	_, err := e.out.Write(rules.Schema())
	return err
}

type modelCommand struct {
	Train modelTrainCommand `cmd:"" help:"Train on a CSV file or on the history in ClickHouse; print how good the model is on rows it has not seen."`
	Score modelScoreCommand `cmd:"" help:"Score the rows of a CSV file, with the features that raise each score most; or say how far the scores of the payments in ClickHouse have moved since training."`
	Show  modelShowCommand  `cmd:"" help:"Print a model: scorecard, logistic regression, LightGBM's text or XGBoost's JSON."`
}

// modelColumns say what the columns of a CSV file are.
type modelColumns struct {
	Target   string   `help:"Column of the outcome." placeholder:"COLUMN"`
	Bad      string   `help:"What the outcome says on a bad row." default:"1"`
	Customer string   `help:"Column of the customer or card: no feature; with --day for card precision." placeholder:"COLUMN"`
	Day      string   `help:"Column of the day, a whole number or a date: no feature." placeholder:"COLUMN"`
	Drop     []string `help:"Columns to leave out." placeholder:"COLUMN"`
}

func (c *modelColumns) data(path string) house.ModelData {
	return house.ModelData{Path: path, Target: c.Target, Bad: c.Bad, Customer: c.Customer, Day: c.Day, Drop: c.Drop}
}

// modelHistory says where the rows are.
type modelHistory struct {
	Data          string    `help:"CSV file with a line of column names." placeholder:"FILE" xor:"source" required:""`
	FromWarehouse string    `help:"Instead, the payments in this ClickHouse: a URL, or the data folder of a running house." placeholder:"URL|FOLDER" xor:"source" required:""`
	Outcome       string    `help:"With --from-warehouse, what makes a payment bad: charged_back or label (of simulated ones)." default:"charged_back"`
	Since         time.Time `help:"With --from-warehouse, the first day, 2026-01-31." format:"2006-01-02" placeholder:"DATE"`
}

type modelTrainCommand struct {
	modelColumns
	modelHistory
	Kind    string            `help:"scorecard or logistic." default:"scorecard" enum:"scorecard,logistic"`
	Folds   int               `help:"Folds of the cross-validation." default:"5"`
	Seed    uint64            `help:"Deals the rows to folds; the same seed deals alike." default:"1"`
	MinIV   float64           `name:"min-iv" help:"Information value below which a scorecard leaves a feature out." default:"0.02"`
	Bins    int               `help:"Bins of a scorecard's feature at most." default:"6"`
	L2      float64           `name:"l2" help:"Penalty on the squares of the coefficients." default:"1"`
	Name    string            `help:"The model's name in the ruleset." default:"pd"`
	Feature map[string]string `help:"What a feature is in the language of rules: duration=loan.term_months." placeholder:"NAME=EXPRESSION"`
	Out     string            `help:"Write the model here, and its section of a ruleset beside it with the ending .yaml." placeholder:"model.json"`
	HTML    string            `name:"html" help:"Write the report here as a page." placeholder:"report.html"`
}

func (c *modelTrainCommand) Run(e *environment) error {
	o := house.TrainOptions{Data: c.data(c.Data), Kind: c.Kind, Folds: c.Folds, Seed: c.Seed, Name: c.Name, Expressions: c.Feature,
		Training: models.Options{L2: c.L2, MinIV: c.MinIV, MaxBins: c.Bins}, Model: c.Out, HTML: c.HTML, Out: e.out}
	if c.FromWarehouse != "" {
		return house.TrainFromWarehouse(e.ctx, c.FromWarehouse, c.Outcome, c.Since, o)
	}
	return house.Train(o)
}

type modelScoreCommand struct {
	modelColumns
	modelHistory
	Model string `arg:"" help:"The model's file."`
}

func (c *modelScoreCommand) Run(e *environment) error {
	if c.FromWarehouse != "" {
		return house.WatchModel(e.ctx, c.Model, c.FromWarehouse, c.Outcome, c.Since, e.out)
	}
	return house.ScoreModel(c.Model, c.data(c.Data), e.out, e.err)
}

type modelShowCommand struct {
	Model string `arg:"" help:"The model's file."`
	YAML  string `name:"yaml" help:"Print the section of a ruleset instead, under this name." placeholder:"NAME"`
}

func (c *modelShowCommand) Run(e *environment) error { return house.ShowModel(c.Model, c.YAML, e.out) }

type rulesTestCommand struct {
	rulesOrder
	File       string `arg:"" help:"A file, a shipped pack (default, fraud, credit, aml, sanctions, compliance, empty), or NAME@VERSION of the rulebook."`
	Cases      string `help:"The file of cases; beside the ruleset unless given: my.yaml has my_test.yaml." placeholder:"FILE"`
	RequireAll bool   `help:"A rule that no case fires is a failure."`
	JSON       bool   `name:"json" help:"Print JSON instead of a table."`
}

func (c *rulesTestCommand) Run(e *environment) error {
	o := house.CasesOptions{Rules: c.File, Cases: c.Cases, RequireAll: c.RequireAll, JSON: c.JSON, Out: e.out}
	ref, err := life.ParseRef(c.File)
	if err != nil {
		return failedSaid(house.TestRules(o))
	}
	return c.open(e, func(b *rulebook.Book) error { return failedSaid(house.TestVersion(e.ctx, b, ref, c.By, c.Why, o)) })
}

// failedSaid is the error of a command that has printed whether something holds.
func failedSaid(ok bool, err error) error {
	if err == nil && !ok {
		return errSaid
	}
	return err
}

type explainCommand struct {
	config.Config
	Decision string `arg:"" help:"The decision: topic/partition/offset of its event, as in the column decision_id in ClickHouse."`
	Shadow   string `help:"Explain what this shadow ruleset said instead." placeholder:"NAME"`
	JSON     bool   `name:"json" help:"Print JSON."`
}

func (c *explainCommand) Run(e *environment) error {
	h, err := house.Open(e.ctx, c.Config, house.Options{Needs: house.ClickHouse, Attach: true, Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	return house.Explain(e.ctx, h.Addresses.ClickHouse, house.ExplainOptions{ID: c.Decision, Shadow: c.Shadow, JSON: c.JSON}, e.out)
}

type rulesBacktestCommand struct {
	rulesOrder
	File    string    `arg:"" help:"The new ruleset: a file, a shipped pack, or NAME@VERSION of the rulebook, where the figures are then written down."`
	Against string    `help:"What it is compared with: the same, 'live', or 'recorded', what the gate said. Default: live; for files, nothing." placeholder:"RULESET"`
	From    time.Time `help:"First day that is measured, 2026-01-31; the 30 days before fill aggregates." format:"2006-01-02" placeholder:"DATE"`
	To      time.Time `help:"The day to end before." format:"2006-01-02" placeholder:"DATE"`
	Format  string    `help:"With amlsim, --data is the folder of an AMLSim data set." default:"warehouse" enum:"warehouse,amlsim"`
	Events  string    `help:"Instead of the warehouse, a file of CloudEvents, one JSON object a line." placeholder:"FILE"`
	Labels  []string  `help:"CSV file of resolved cases, with payment_id (or loan_id) and label: fraud or legit." placeholder:"FILE"`
	Unit    string    `help:"What is counted: event, customer, or account (whoever sends or receives). Default: event; for amlsim, account." enum:",event,customer,account" default:""`
	JSON    bool      `name:"json" help:"Print JSON instead of tables."`
	HTML    string    `name:"html" help:"Write the report as one page with plots." placeholder:"FILE"`
}

func (c *rulesBacktestCommand) Run(e *environment) error {
	o := house.BacktestOptions{Rules: c.File, Against: c.Against, From: c.From, To: c.To, Events: c.Events, Labels: c.Labels, Unit: c.Unit,
		JSON: c.JSON, HTML: c.HTML, By: c.By, Why: c.Why, Out: e.out, Err: e.err, Log: c.Logger(e.err)}
	if c.Format == "amlsim" {
		o.AMLSim = c.Data
	}
	return house.Backtest(e.ctx, c.Config, o)
}

type ledgerCommand struct {
	Accounts     ledgerAccountsCommand     `cmd:"" help:"List accounts with their balances, now or at a moment."`
	Statement    ledgerStatementCommand    `cmd:"" help:"Print what happened on an account, with the balance after each transfer."`
	TrialBalance ledgerTrialBalanceCommand `cmd:"" help:"Add the book up, now or at a moment; exit 1 if it does not balance."`
	Verify       ledgerVerifyCommand       `cmd:"" help:"Prove the book: sums, floors, holds, the chain of batches; exit 1 on any breach."`
	Close        ledgerCloseCommand        `cmd:"" help:"Close the book up to the end of a day: no transfer is dated before it any more."`
	Closed       ledgerClosedCommand       `cmd:"" help:"List the closed periods, the first one first."`
	Rollup       ledgerRollupCommand       `cmd:"" help:"Write the balances of closed days where a close has not: one of an earlier release, or one cut short."`
	Simulate     ledgerSimulateCommand     `cmd:"" help:"Send random operations to books in memory and check everything after each; exit 1 if one breaks."`
}

type ledgerSimulateCommand struct {
	Operations int64  `help:"How many groups of transfers." default:"1000000"`
	Seeds      int    `help:"Over how many seeds." default:"10"`
	First      uint64 `help:"The first seed; one operation count and one seed always do the same." default:"1"`
}

func (c *ledgerSimulateCommand) Run(e *environment) error {
	err := house.SimulateLedger(e.ctx, c.Operations, c.Seeds, c.First, e.out, house.Progress(e.err))
	if err == nil {
		fmt.Fprintln(e.out, "no breach")
	}
	return err
}

type benchCommand struct {
	Ledger benchLedgerCommand `cmd:"" help:"Transfers a second of the book's batch, of a transaction for each transfer, and of COPY of the same rows."`
}

type benchLedgerCommand struct {
	Batches  int      `help:"Batches of each workload and writer." default:"12"`
	Batch    int      `help:"Decisions of a batch." default:"5000"`
	Accounts int      `help:"Accounts of the workloads with many." default:"1000000"`
	Only     []string `help:"Only these workloads." sep:";" placeholder:"NAME;…"`
	JSON     bool     `name:"json" help:"Print JSON instead of a table."`
}

func (c *benchLedgerCommand) Run(e *environment) error {
	return house.BenchLedger(e.ctx, house.LedgerBench{Batches: c.Batches, Batch: c.Batch, Accounts: c.Accounts, Only: c.Only, JSON: c.JSON, Out: e.out, Draw: house.Progress(e.err)})
}

// withBook does something with the book of the running house, or of the data folder.
func withBook(e *environment, c config.Config, do func(*books.Book, string) error) error {
	h, err := house.Open(e.ctx, c, house.Options{Needs: house.Postgres, Attach: true, Embed: true, Existing: true, Progress: house.Progress(e.err), Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	b, err := books.Open(e.ctx, h.Addresses.Postgres)
	if err != nil {
		return err
	}
	defer b.Close(context.WithoutCancel(e.ctx))
	return do(b, h.Addresses.Postgres)
}

// output is how a table is written.
type output struct {
	CSV  bool `name:"csv" help:"Print CSV." xor:"form"`
	JSON bool `name:"json" help:"Print JSON." xor:"form"`
}

func (o output) write(w io.Writer, v any, table func(io.Writer, bool) error) error {
	if !o.JSON {
		return table(w, o.CSV)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

type ledgerAccountsCommand struct {
	config.Config
	output
	Type     string `help:"Only accounts of this type: wallet, merchant, fees, …"`
	Currency string `help:"Only accounts in this currency." placeholder:"CNY"`
	Like     string `help:"Only accounts with this in their name." placeholder:"TEXT"`
	At       string `help:"As they were at the end of a day (2026-03-31, UTC), or at a time (2026-03-31T18:00:00Z)." placeholder:"TIME"`
	Limit    int    `help:"At most so many; 0 is all." default:"100"`
}

func (c *ledgerAccountsCommand) Run(e *environment) error {
	at, err := books.ParseAt(c.At)
	if err != nil {
		return err
	}
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		all, total, err := b.List(e.ctx, books.Filter{Type: c.Type, Currency: c.Currency, Like: c.Like, Limit: c.Limit}, at)
		if err != nil {
			return err
		}
		err = c.write(e.out, all, func(w io.Writer, csv bool) error { return books.WriteAccounts(w, all, csv) })
		return errors.Join(err, books.WriteRest(e.err, len(all), total))
	})
}

type paymentsCommand struct {
	Show     paymentsShowCommand     `cmd:"" help:"Print a payment's whole life: what it stands at, its holds, every event with its answer and its transfers."`
	Stuck    paymentsStuckCommand    `cmd:"" help:"List what waits longer than its limit: reviews, settlements, payouts, disputes, events that came early."`
	Disputes paymentsDisputesCommand `cmd:"" help:"List the open disputes, the one due first first."`
}

type paymentsShowCommand struct {
	config.Config
	ID   string `arg:"" help:"The payment's id."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *paymentsShowCommand) Run(e *environment) error {
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		life, err := b.Payment(e.ctx, c.ID)
		if err != nil {
			return err
		}
		return output{JSON: c.JSON}.write(e.out, life, func(w io.Writer, _ bool) error { return life.Write(w) })
	})
}

type paymentsStuckCommand struct {
	config.Config
	output
	At      string `help:"At the end of a day (2026-03-31, UTC), or at a time. Default: each shard's newest event." placeholder:"TIME"`
	Limit   int    `help:"At most so many; 0 is all." default:"100"`
	GivenUp bool   `help:"Instead, events that came early and that nobody waits for any longer, each with its final answer."`
}

func (c *paymentsStuckCommand) Run(e *environment) error {
	at, err := books.ParseAt(c.At)
	if err != nil {
		return err
	}
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		all, total, err := b.Stuck(e.ctx, books.StuckQuery{At: at, Limit: c.Limit, GivenUp: c.GivenUp})
		if err != nil {
			return err
		}
		if err := c.write(e.out, all, func(w io.Writer, csv bool) error { return books.WriteStuck(w, all, csv) }); err != nil {
			return err
		}
		if err := books.WriteRest(e.err, len(all), total); err != nil || c.GivenUp {
			return err
		}
		_, gone, err := b.Stuck(e.ctx, books.StuckQuery{At: at, Limit: 1, GivenUp: true})
		if err == nil && gone > 0 {
			fmt.Fprintf(e.err, "%d events that came early are given up and not listed; --given-up shows them\n", gone)
		}
		return err
	})
}

type paymentsDisputesCommand struct {
	config.Config
	output
	Limit int `help:"At most so many; 0 is all." default:"100"`
}

func (c *paymentsDisputesCommand) Run(e *environment) error {
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		all, err := b.Disputes(e.ctx, c.Limit)
		if err != nil {
			return err
		}
		return c.write(e.out, all, func(w io.Writer, csv bool) error { return books.WriteDisputes(w, all, csv) })
	})
}

type ledgerStatementCommand struct {
	config.Config
	output
	Account string `arg:"" help:"Name of the account, as wallet:C42:CNY, merchant:M7:CNY, fees:CNY; of one of its stripes, fees/5:CNY, the whole account."`
	From    string `help:"First day (2026-03-01, UTC), or a time." placeholder:"TIME"`
	To      string `help:"Last day, or the time to stop before." placeholder:"TIME"`
	Page    int    `help:"Which page, from 1." default:"1"`
	Lines   int    `help:"Lines of a page; 0 is all on one." default:"50"`
}

func (c *ledgerStatementCommand) Run(e *environment) error {
	from, err := books.ParseFrom(c.From)
	if err != nil {
		return err
	}
	to, err := books.ParseTo(c.To)
	if err != nil {
		return err
	}
	if c.Page < 1 || c.Lines < 0 {
		return fmt.Errorf("page %d of %d lines: pages count from 1, lines from 0", c.Page, c.Lines)
	}
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		s, err := b.Read(e.ctx, c.Account, books.Period{From: from, To: to}, books.Page{Number: c.Page, Size: c.Lines})
		if err != nil {
			return err
		}
		if warning := s.Warning(); warning != "" {
			fmt.Fprintln(e.err, "warning:", warning)
		}
		return c.write(e.out, s, s.Write)
	})
}

type ledgerTrialBalanceCommand struct {
	config.Config
	output
	At   string `help:"As it was at the end of a day (2026-03-31, UTC), or at a time." placeholder:"TIME"`
	Each bool   `help:"Each account by itself instead of each type."`
}

func (c *ledgerTrialBalanceCommand) Run(e *environment) error {
	at, err := books.ParseAt(c.At)
	if err != nil {
		return err
	}
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		t, err := b.TrialBalance(e.ctx, at, c.Each)
		if err != nil {
			return err
		}
		if err := c.write(e.out, t, t.Write); err != nil {
			return err
		}
		if !t.Balanced() {
			return errors.New("the book does not balance; `sluice ledger verify` says where")
		}
		return nil
	})
}

type ledgerVerifyCommand struct {
	config.Config
	JSON bool `name:"json" help:"Print JSON instead of a table."`
}

func (c *ledgerVerifyCommand) Run(e *environment) error {
	return withBook(e, c.Config, func(_ *books.Book, postgres string) error {
		report, err := verify.Book(e.ctx, postgres, house.Line(e.err))
		if err != nil {
			return err
		}
		if c.JSON {
			err = report.JSON(e.out)
		} else {
			err = report.Table(e.out)
		}
		if err == nil && !report.OK() {
			return errSaid
		}
		return err
	})
}

type ledgerCloseCommand struct {
	config.Config
	author
	Day    string `arg:"" help:"The last day of the period, as 2026-03-31 (UTC). It must be over, and every shard of the book that had an event past it."`
	Anyway bool   `help:"Although shards of the book have not passed the day: what comes late is dated after it."`
}

func (c *ledgerCloseCommand) Run(e *environment) error {
	day, err := time.Parse(time.DateOnly, c.Day)
	if err != nil {
		return fmt.Errorf("%q is no day, as 2026-03-31", c.Day)
	}
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		closed, err := b.ClosePeriod(e.ctx, books.Closing{Day: day, By: c.By, Now: time.Now(), Anyway: c.Anyway})
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "the book is closed before %s; what comes late from before is dated then\n", closed.Until.Format(time.RFC3339))
		_, err = b.RollUp(e.ctx)
		return err
	})
}

type ledgerClosedCommand struct {
	config.Config
	output
}

func (c *ledgerClosedCommand) Run(e *environment) error {
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		all, err := b.Closings(e.ctx)
		if err != nil {
			return err
		}
		return c.write(e.out, all, func(w io.Writer, csv bool) error { return books.WriteClosings(w, all, csv) })
	})
}

type ledgerRollupCommand struct{ config.Config }

func (c *ledgerRollupCommand) Run(e *environment) error {
	return withBook(e, c.Config, func(b *books.Book, _ string) error {
		until, err := b.RollUp(e.ctx)
		switch {
		case err != nil:
			return err
		case until.IsZero():
			fmt.Fprintln(e.out, "no day is closed; `sluice ledger close` closes one")
		default:
			fmt.Fprintf(e.out, "the days before %s are rolled up\n", until.Format(time.DateOnly))
		}
		return nil
	})
}

type reconcileCommand struct {
	Run     reconcileRunCommand     `cmd:"" default:"withargs" help:"Match a channel's statement with the book; exit 1 while breaks are open."`
	Breaks  reconcileBreaksCommand  `cmd:"" help:"List the open breaks."`
	Resolve reconcileResolveCommand `cmd:"" help:"End a break by one's word, which is written down; posts nothing."`
}

type reconcileRunCommand struct {
	config.Config
	author
	Channel string    `arg:"" help:"As in its clearing accounts: card, bank_transfer, quick_pay."`
	File    string    `arg:"" help:"The statement: CSV, or camt.053.001.02 or .08."`
	Profile string    `help:"What the columns mean and what counts as the same; see docs/reconciliation.md. CSV needs it." placeholder:"P.yaml"`
	From    time.Time `help:"First day of the period, 2026-01-31. Default: the statement's." format:"2006-01-02" placeholder:"DATE"`
	To      time.Time `help:"Last day of the period. Default: the statement's." format:"2006-01-02" placeholder:"DATE"`
	JSON    bool      `name:"json" help:"Print JSON instead of a table."`
}

func (c *reconcileRunCommand) Run(e *environment) error {
	out, err := house.Reconcile(e.ctx, c.Config, house.ReconcileOptions{Channel: c.Channel, File: c.File, Profile: c.Profile, From: c.From, To: c.To, By: c.By,
		Progress: house.Progress(e.err), Log: c.Logger(e.err)})
	if err != nil {
		return err
	}
	if c.JSON {
		err = out.JSON(e.out)
	} else {
		err = out.Table(e.out)
	}
	if err == nil && out.Breaks() > 0 {
		return errSaid
	}
	return err
}

type reconcileBreaksCommand struct {
	config.Config
	Channel string `arg:"" optional:"" help:"A channel. Default: all."`
	All     bool   `help:"Also those that are resolved or closed."`
	JSON    bool   `name:"json" help:"Print JSON instead of a table."`
}

func (c *reconcileBreaksCommand) Run(e *environment) error {
	return house.WithReconciliation(e.ctx, c.Config, c.Logger(e.err), func(s *reconciliation.Store) error {
		breaks, err := s.Breaks(e.ctx, c.Channel, c.All)
		if err != nil {
			return err
		}
		if c.JSON {
			return reconciliation.BreaksJSON(e.out, breaks, house.Today())
		}
		return reconciliation.PrintBreaks(e.out, breaks, house.Today())
	})
}

type reconcileResolveCommand struct {
	config.Config
	author
	ID    int64  `arg:"" help:"The break's number, as sluice reconcile breaks has it."`
	Why   string `help:"The reason, for the audit." placeholder:"TEXT" required:""`
	Entry string `help:"The entry that corrects it, as the book knows it; named only, nothing is posted." placeholder:"ID"`
}

func (c *reconcileResolveCommand) Run(e *environment) error {
	return house.WithReconciliation(e.ctx, c.Config, c.Logger(e.err), func(s *reconciliation.Store) error {
		b, err := s.Resolve(e.ctx, reconciliation.Resolution{Break: c.ID, By: c.By, Why: c.Why, Entry: c.Entry})
		if err == nil {
			fmt.Fprintf(e.out, "break %d (%s, %s of %s) is resolved\n", b.ID, b.Class, b.Reference, b.Channel)
		}
		return err
	})
}

type settlementCommand struct {
	Check    settlementCheckCommand    `cmd:"" help:"Check a file of terms; each mistake with file, line, column and a suggestion."`
	Run      settlementRunCommand      `cmd:"" help:"Make the batches of a cut-off and order their payments; once more it changes nothing."`
	Batches  settlementBatchesCommand  `cmd:"" help:"List merchants' batches, the newest first."`
	Show     settlementShowCommand     `cmd:"" help:"Print a batch and its transfers."`
	Due      settlementDueCommand      `cmd:"" help:"List what payment channels owe, by value date; overdue by the book's clock."`
	Received settlementReceivedCommand `cmd:"" help:"Note that a payment channel has paid a batch; the book shows it."`
	Files    settlementFilesCommand    `cmd:"" help:"List payout files, or write one again."`
	Calendar settlementCalendarCommand `cmd:"" help:"Print a year's business days, cut-offs and value dates."`
}

type settlementCheckCommand struct {
	File string `arg:"" help:"The file of terms; see docs/settlement.md."`
}

func (c *settlementCheckCommand) Run(e *environment) error {
	t, err := house.SettlementTerms(c.File)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s is fine: %s, %d calendars, %d merchants and %d channels of their own\n", c.File, t.Name, len(t.Calendars), len(t.Merchants), len(t.Channels))
	return nil
}

type settlementRunCommand struct {
	config.Config
	CutOff string `name:"cutoff" help:"Business day whose cut-off is the last, 2026-01-31. Default: the last that the book has passed." placeholder:"DATE"`
	Anyway bool   `help:"Although shards of the book have not passed the cut-off: what comes late falls into the next batch."`
	New    bool   `name:"new-terms" help:"By terms of another name than the last batch's."`
	Out    string `help:"Folder for payout files of what the book has posted, CSV and pain.001. Default: none are made." placeholder:"FOLDER"`
}

func (c *settlementRunCommand) Run(e *environment) error {
	cutOff, err := dayOf("--cutoff", c.CutOff)
	if err != nil {
		return err
	}
	return house.Settle(e.ctx, c.Config, house.SettleOptions{CutOff: cutOff, Anyway: c.Anyway, NewTerms: c.New, Folder: c.Out, Out: e.out, Progress: house.Progress(e.err), Log: c.Logger(e.err)})
}

type settlementBatchesCommand struct {
	config.Config
	Merchant string `help:"Of one merchant. Default: all." placeholder:"ID"`
	Limit    int    `help:"At most so many; 0: all." default:"50"`
	JSON     bool   `name:"json" help:"Print JSON instead of a table."`
}

func (c *settlementBatchesCommand) Run(e *environment) error {
	return house.WithSettlement(e.ctx, c.Config, c.Logger(e.err), func(s *settlement.Store) error {
		rows, more, err := s.Batches(e.ctx, c.Merchant, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			err = settlement.JSON(e.out, rows)
		} else {
			err = settlement.PrintBatches(e.out, rows)
		}
		tellMore(e, more, c.Limit)
		return err
	})
}

// tellMore says that a list stopped at its limit. It is no part of the list, which a program may read.
func tellMore(e *environment, more bool, limit int) {
	if more {
		warn(e, fmt.Sprintf("the newest %d are listed, there are more; --limit 0 lists all", limit))
	}
}

type settlementShowCommand struct {
	config.Config
	Batch int64 `arg:"" help:"The batch's number, as sluice settlement batches has it."`
	All   bool  `help:"All of its transfers, not the first hundred."`
}

func (c *settlementShowCommand) Run(e *environment) error {
	return house.WithSettlement(e.ctx, c.Config, c.Logger(e.err), func(s *settlement.Store) error {
		limit := 100
		if c.All {
			limit = 0
		}
		row, items, err := s.Show(e.ctx, c.Batch, limit)
		if err != nil {
			return err
		}
		return settlement.PrintBatch(e.out, &row, items)
	})
}

type settlementDueCommand struct {
	config.Config
	JSON bool `name:"json" help:"Print JSON instead of a table."`
}

func (c *settlementDueCommand) Run(e *environment) error {
	return house.WithSettlement(e.ctx, c.Config, c.Logger(e.err), func(s *settlement.Store) error {
		rows, err := s.Due(e.ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return settlement.JSON(e.out, rows)
		}
		today, err := s.Today(e.ctx)
		if err != nil {
			return err
		}
		return settlement.PrintDue(e.out, rows, today)
	})
}

type settlementReceivedCommand struct {
	config.Config
	Batch  int64  `arg:"" help:"The batch's number, as sluice settlement due has it."`
	Amount string `help:"What came, in major units. Default: what was expected." placeholder:"AMOUNT"`
	On     string `help:"Day on which it came. Default: the value date." placeholder:"DATE"`
	Anyway bool   `help:"Although the amount differs by more than one percent from what was expected."`
}

func (c *settlementReceivedCommand) Run(e *environment) error {
	on, err := dayOf("--on", c.On)
	if err != nil {
		return err
	}
	seen, err := house.Receive(e.ctx, c.Config, settlement.Receipt{Batch: c.Batch, Major: c.Amount, At: on, Anyway: c.Anyway}, c.Logger(e.err))
	if err != nil {
		return err
	}
	return seen.Print(e.out)
}

type settlementFilesCommand struct {
	config.Config
	File  int64  `help:"Write this file again, the same bytes as before." placeholder:"NUMBER"`
	Out   string `help:"Folder it is written to." default:"." placeholder:"FOLDER"`
	Limit int    `help:"List at most so many; 0: all." default:"50"`
}

func (c *settlementFilesCommand) Run(e *environment) error {
	return house.WithSettlement(e.ctx, c.Config, c.Logger(e.err), func(s *settlement.Store) error {
		if c.File == 0 {
			rows, more, err := s.Files(e.ctx, c.Limit)
			if err != nil {
				return err
			}
			err = settlement.PrintFiles(e.out, rows)
			tellMore(e, more, c.Limit)
			return err
		}
		s.Progress = house.Progress(e.err)
		out, err := s.WriteFiles(e.ctx, c.Out, c.File)
		for _, path := range out.Paths {
			fmt.Fprintln(e.out, path)
		}
		return err
	})
}

type settlementCalendarCommand struct {
	Settlement string `help:"File of terms. Default: the shipped ones." env:"SLUICE_SETTLEMENT" placeholder:"FILE"`
	Year       int    `help:"The year." required:"" placeholder:"YYYY"`
	Merchant   string `help:"By the terms of this merchant. Default: of those that have none of their own." placeholder:"ID"`
}

func (c *settlementCalendarCommand) Run(e *environment) error {
	t, err := house.SettlementTerms(c.Settlement)
	if err != nil {
		return err
	}
	if c.Year < 1970 || c.Year > 9998 {
		return fmt.Errorf("--year %d: give 1970 to 9998", c.Year)
	}
	return settlement.PrintCalendar(e.out, t.Of(c.Merchant), c.Year)
}
