// Command muster is the whole of Muster in one binary: the service (muster serve), its
// set-up (init, migrate, doctor), a client of its admin API, and a reference device.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/passmuster/muster/internal/fault"
)

// version is set by the linker.
var version = "dev"

// cli is the command tree: nouns, then verbs (experience §2).
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the service."`
	Init    initCmd    `cmd:"" help:"Set up a production installation: muster.yaml, keys, CA."`
	Migrate migrateCmd `cmd:"" help:"Bring the database's schema up to date."`
	Doctor  doctorCmd  `cmd:"" help:"Check the invariants on a live database."`
	Keys    keysCmd    `cmd:"" help:"The key that protects secrets at rest: replace it while the server runs."`
	Scope   scopeCmd   `cmd:"" help:"ID scopes: several tenants in one server."`
	Token   tokenCmd   `cmd:"" help:"Make an operator token as the host's own act, with the server stopped."`

	Status  statusCmd  `cmd:"" help:"Show whether the service is well."`
	Jobs    jobsCmd    `cmd:"" help:"List what the server does by itself, and how that went."`
	Explain explainCmd `cmd:"" help:"Say what would happen if a device registered now, and why."`
	Find    findCmd    `cmd:"" help:"Find anything: a registration id, serial, thumbprint or certificate file."`

	CA           caCmd           `cmd:"" name:"ca" help:"Issuers and issued certificates."`
	Verify       verifyCmd       `cmd:"" help:"Trust anchors and proof of possession; check chains offline."`
	Enroll       enrollCmd       `cmd:"" help:"Individual enrollments."`
	Group        groupCmd        `cmd:"" help:"Enrollment groups."`
	Reg          regCmd          `cmd:"" help:"Registration records."`
	Roll         rollCmd         `cmd:"" help:"Rotation: plans, what is due, and campaigns that move many devices."`
	Disallow     disallowCmd     `cmd:"" help:"Shut out what is compromised, everywhere: a certificate, a key, or a CA and all below it."`
	Drill        drillCmd        `cmd:"" help:"Try a disallowance on a copy of the database, and say what it did; on the host itself."`
	Retire       retireCmd       `cmd:"" help:"Take devices out of service: shut out, certificates revoked, off their hubs."`
	Quarantine   quarantineCmd   `cmd:"" help:"Keep devices on a hub of your choosing, with a twin of their own, until that is ended."`
	Tripwire     tripwireCmd     `cmd:"" help:"Devices that look like two: an old certificate, a shared key, two chains."`
	Hub          hubCmd          `cmd:"" help:"Linked hubs."`
	Subscription subscriptionCmd `cmd:"" help:"Who is told of what is written into the ledger."`
	Profile      profileCmd      `cmd:"" help:"Issuing profiles: what certificates look like."`
	Audit        auditCmd        `cmd:"" help:"The ledger, and the log that shows when it was rewritten."`
	Access       accessCmd       `cmd:"" help:"Shared access policies: connection strings for Azure's clients."`
	Import       bringCmd        `cmd:"" help:"Bring over what another service holds."`
	Device       deviceCmd       `cmd:"" help:"A device client: no admin rights, only the public wire."`

	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
}

// streams is where a command reads and writes; results go to Out, talk to Err.
type streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// exit carries a code through kong's own exits (--help).
type exit int

// run is main without the process: it parses, runs one command and returns its exit code.
func run(ctx context.Context, args []string, s streams) (code int) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = int(e)
		default:
			panic(e)
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("muster"), kong.Description("A device identity authority: certificate authority and device provisioning in one."),
		kong.UsageOnError(), kong.Writers(s.Out, s.Err), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(s.Err, "muster: %v\n", err)
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(s, parser)
	if err := parsed.Run(); err != nil {
		return report(s.Err, err)
	}
	return exitDone
}

// Exit codes (experience §2).
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitNotAllowed  = 4
	exitConflict    = 5
	exitRefused     = 6
	exitUnreachable = 7
	exitPartly      = 8
	exitWarning     = 10
	exitCritical    = 11
)

// quietExit is an error whose command has said all there is to say.
type quietExit struct{ code int }

func (q quietExit) Error() string { return fmt.Sprintf("exit %d", q.code) }

// report says what went wrong in one sentence and picks the exit code.
func report(w io.Writer, err error) int {
	var quiet quietExit
	if errors.As(err, &quiet) {
		return quiet.code
	}
	fmt.Fprintf(w, "muster: %v\n", err)
	if code, ok := deviceExitCode(err); ok {
		return code
	}
	switch fault.KindOf(err) {
	case fault.Malformed, fault.TooLarge:
		return exitUsage
	case fault.NotFound:
		return exitNotFound
	case fault.Unauthenticated, fault.Forbidden:
		return exitNotAllowed
	case fault.Conflict, fault.PreconditionFailed, fault.PreconditionRequired:
		return exitConflict
	case fault.Disallowed:
		return exitRefused
	case fault.Unavailable, fault.Throttled:
		return exitUnreachable
	case fault.Internal:
	}
	return exitFailed
}

type versionCmd struct{}

func (versionCmd) Run(s streams) error {
	_, err := fmt.Fprintln(s.Out, "muster", version)
	return err
}
