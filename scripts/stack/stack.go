// Package stack runs the whole system as local processes: PostgreSQL, RabbitMQ,
// the outside world and the services, on free loopback ports, for the
// demo, the lab and the end-to-end tests. Whatever dies is started again at the
// same address.
package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/platform/wait"
	"example.com/failwell/shared/testenv"
)

const (
	readyTimeout = 60 * time.Second
	stopPatience = 10 * time.Second
)

// Stack is a running system.
type Stack struct {
	Servers *testenv.Env
	URL     map[string]string // by name
	Dir     string            // logs and binaries
	Root    string            // of the repository
	Network *Network          // nil unless asked for

	inside map[string]string // addresses as the services reach each other, by link

	given       bool   // the servers are somebody else's to close
	tenant      string // see Options.Tenant
	amqp        string // our virtual host
	lab         map[string]string
	processes   []string
	supervisors map[string]*supervisor
	releases    []func()
}

// Start builds and starts everything and returns when all is ready.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	s := &Stack{URL: map[string]string{}, given: opts.Servers != nil, tenant: opts.Tenant, processes: opts.processes(), supervisors: map[string]*supervisor{}}
	if err := s.start(ctx, opts); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, opts Options) error {
	root, err := ModuleRoot()
	if err != nil {
		return err
	}
	s.Root = root
	if s.lab, err = readEnvFile(filepath.Join(root, "scripts", "lab.env")); err != nil {
		return err
	}
	if s.Dir, err = os.MkdirTemp("", "failwell-stack-"); err != nil {
		return err
	}

	// Building and booting take several seconds each, so they go side by side.
	built := make(chan error, 1)
	go func() { built <- s.build(ctx, root, opts.Overlay) }()
	if s.Servers = opts.Servers; s.Servers == nil {
		s.Servers, err = testenv.Start(ctx, testenv.Options{IgnoreGiven: opts.IgnoreGiven, LogicalDecoding: opts.LogicalDecoding, Log: opts.Out})
	}
	if e := <-built; err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if s.tenant != "" {
		if s.amqp, err = s.Servers.VirtualHost(ctx, s.tenant); err != nil {
			return err
		}
	}
	if err := s.createDatabases(ctx, root); err != nil {
		return err
	}
	for _, name := range s.processes {
		port, release, err := testenv.HoldPort()
		if err != nil {
			return err
		}
		s.releases = append(s.releases, release)
		s.URL[name] = fmt.Sprintf("http://127.0.0.1:%d", port)
	}
	if err := s.connect(opts); err != nil {
		return err
	}
	for _, name := range s.processes {
		env := opts.Env[programOf(name)]
		if name != programOf(name) {
			env = slices.Concat(env, opts.Env[name])
		}
		sup := &supervisor{
			name: name, binary: filepath.Join(s.Dir, programOf(name)), env: s.environment(name, env),
			logPath: filepath.Join(s.Dir, name+".log"), lives: opts.Lives,
		}
		s.supervisors[name] = sup
		if err := sup.run(); err != nil {
			return err
		}
	}
	return s.WaitReady(ctx)
}

// connect decides over which addresses the processes reach each other.
func (s *Stack) connect(opts Options) error {
	s.amqp = cmp.Or(s.amqp, s.Servers.AMQPURL)
	s.inside = map[string]string{
		"postgres": s.Servers.PostgresURL, "rabbitmq": s.amqp,
		Sandbox: s.URL[Sandbox], Ledger: s.URL[Ledger], Payments: s.URL[Payments],
	}
	if !opts.Network && len(opts.BrokerLinks) == 0 {
		return nil
	}
	s.Network = newNetwork()
	var err error
	if opts.Network {
		for _, link := range Links {
			if s.inside[link], err = s.Network.through(link, s.inside[link]); err != nil {
				return err
			}
		}
	}
	for _, name := range opts.BrokerLinks {
		if s.inside[BrokerLink(name)], err = s.Network.through(BrokerLink(name), s.inside["rabbitmq"]); err != nil {
			return err
		}
	}
	return nil
}

// OverlayFlags writes replacements of source files into dir, as `go build -overlay`
// wants them, and returns the flags.
func OverlayFlags(dir, root string, overlay map[string]string) ([]string, error) {
	if len(overlay) == 0 {
		return nil, nil
	}
	replace := map[string]string{}
	for path, text := range overlay {
		file := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		replace[filepath.Join(root, path)] = file
	}
	plan, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "overlay.json")
	return []string{"-overlay", file}, os.WriteFile(file, plan, 0o600)
}

// createDatabases runs scripts/init.sql, the same file as docker compose does.
func (s *Stack) createDatabases(ctx context.Context, root string) error {
	script, err := os.ReadFile(filepath.Join(root, "scripts", "init.sql"))
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.Servers.PostgresURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is at stake
	// Two who alter a role at once get an error. The lock ends with the connection.
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(1)`); err != nil {
		return err
	}
	for statement := range strings.SplitSeq(withoutComments(string(script)), ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if s.tenant != "" {
			statement = database.ReplaceAllString(statement, "${1}_"+s.tenant)
		}
		var pgErr *pgconn.PgError
		if _, err := conn.Exec(ctx, statement); err != nil && (s.tenant == "" || !errors.As(err, &pgErr) || pgErr.Code != "42710") { // the roles are all tenants'
			return fmt.Errorf("stack: %s: %w", strings.TrimSpace(statement), err)
		}
	}
	return nil
}

var database = regexp.MustCompile(`(DATABASE \w+)`)

// environment is the lab's settings and the addresses of this stack.
func (s *Stack) environment(name string, more []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	instance, broker := name, cmp.Or(s.inside[BrokerLink(name)], s.inside["rabbitmq"])
	if name == programOf(name) {
		instance += "-1"
	}
	for key, value := range s.lab {
		env = append(env, key+"="+value)
	}
	env = append(env,
		"HTTP_ADDR="+strings.TrimPrefix(s.URL[name], "http://"),
		"DATABASE_URL="+s.ownDatabase(s.inside["postgres"], programOf(name)),
		"AMQP_URL="+broker,
		"INSTANCE="+instance,
		"PROCESSOR_URL="+s.inside[Sandbox],
		"BANK_URL="+s.inside[Sandbox],
		"LEDGER_URL="+s.inside[Ledger],
		"PAYMENTS_URL="+s.inside[Payments],
		"RECEIPTS_URL="+s.ReceiptsURL(),
		"WEBHOOK_TARGET="+s.inside[Payments]+"/webhooks/processor")
	return append(env, more...)
}

// ReceiptsURL is where payments stores its documents.
func (s *Stack) ReceiptsURL() string {
	return "file://" + filepath.Join(s.Dir, "receipts") + "?create_dir=true&no_tmp_dir=true&metadata=skip"
}

// DatabaseURL is the address of a service's own database, as its own role.
func (s *Stack) DatabaseURL(name string) string { return s.ownDatabase(s.Servers.PostgresURL, name) }

func (s *Stack) ownDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	u.User, u.Path = url.UserPassword(name, name), "/"+name
	if s.tenant != "" {
		u.Path += "_" + s.tenant
	}
	return u.String()
}

// Env is what a person needs to use the system from outside.
func (s *Stack) Env() map[string]string {
	merchants := strings.Split(s.lab["MERCHANTS"], ",")
	acme, other := strings.Split(merchants[0], ":"), strings.Split(merchants[1], ":")
	env := map[string]string{
		"MERCHANT_KEY": acme[1], "WEBHOOK_SECRET": acme[2], "OTHER_MERCHANT_KEY": other[1],
		"PROCESSOR_WEBHOOK_SECRET": s.lab["PROCESSOR_WEBHOOK_SECRET"], "PROCESSOR_KEY": s.lab["PROCESSOR_KEY"], "SERVICE_KEY": s.lab["SERVICE_KEY"],
		"RECEIPTS_URL": s.ReceiptsURL(),
		"POSTGRES_URL": s.Servers.PostgresURL, "AMQP_URL": s.amqp,
	}
	for _, name := range Processes {
		env[strings.ToUpper(name)+"_URL"] = s.URL[name]
	}
	return env
}

// WaitReady returns when every process says that it is ready.
func (s *Stack) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for name := range s.URL {
		if err := wait.Until(ctx, 20*time.Millisecond, name, func() (bool, error) { return s.Ready(ctx, name), nil }); err != nil {
			return fmt.Errorf("stack: %w\n%s", err, s.logTail(name))
		}
	}
	return nil
}

// Ready tells whether a process says that it is ready.
func (s *Stack) Ready(ctx context.Context, name string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL[name]+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Signal sends a signal to a process; false when it is dead at the moment.
// SIGKILL kills it, and it is started again; SIGSTOP and SIGCONT pause it.
func (s *Stack) Signal(name string, sig syscall.Signal) bool {
	return s.supervisors[name].signal(sig)
}

// Pid is the process of a service; 0 between two lives.
func (s *Stack) Pid(name string) int {
	sup := s.supervisors[name]
	sup.mu.Lock()
	defer sup.mu.Unlock()
	if sup.cmd == nil {
		return 0
	}
	return sup.cmd.Process.Pid
}

// Starts is how often a process was started, and lastExit the exit status of
// its last life (-1: ended by a signal).
func (s *Stack) Starts(name string) (starts, lastExit int) {
	sup := s.supervisors[name]
	sup.mu.Lock()
	defer sup.mu.Unlock()
	return sup.starts, sup.lastExit
}

// logTail returns the last lines of a process's log.
func (s *Stack) logTail(name string) string {
	const most = 4000
	text, err := os.ReadFile(filepath.Join(s.Dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// Close stops everything, services first, and removes what was written.
func (s *Stack) Close() {
	for _, name := range slices.Backward(s.processes) {
		if sup := s.supervisors[name]; sup != nil {
			sup.stop(stopPatience)
		}
	}
	if s.Network != nil {
		s.Network.close()
	}
	if s.Servers != nil && !s.given {
		s.Servers.Close()
	}
	for _, release := range s.releases {
		release()
	}
	if s.Dir != "" {
		_ = os.RemoveAll(s.Dir)
	}
}
