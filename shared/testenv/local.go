package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
)

// startLocal starts private instances from the binaries on this machine.
func startLocal(ctx context.Context, opts Options) (*Env, error) {
	initdb := newest("/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb") // distributions keep it off the PATH
	if initdb == "" {
		initdb, _ = exec.LookPath("initdb")
	}
	// The broker's own start script, not the distribution's wrapper around it, which
	// insists on being root or rabbitmq.
	rabbit := newest("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if initdb == "" && !opts.WithoutPostgres {
		return nil, fmt.Errorf("PostgreSQL's server binaries are %w", errNotHere)
	}
	if rabbit == "" && !opts.WithoutRabbit {
		return nil, fmt.Errorf("RabbitMQ's server is %w", errNotHere)
	}
	e, err := newEnv("local binaries")
	if err != nil {
		return nil, err
	}
	return e.boot(ctx, opts,
		func() (machine, error) { return e.localPostgres(ctx, initdb, settings(opts)) },
		func() (machine, error) { return e.localRabbit(rabbit) })
}

// newest returns the last of the files that fit a pattern; "" when there is none.
func newest(patterns ...string) string {
	found := []string{""}
	for _, pattern := range patterns {
		more, _ := filepath.Glob(pattern)
		found = append(found, more...)
	}
	return slices.Max(found)
}

// postgresSettings are those of a database in service, as in docker-compose.yml. The
// defaults are for a machine with 128 MB to spare: an index that is larger is read and
// written page by page, and a page that is touched for the first time after a
// checkpoint goes into the log whole.
var postgresSettings = []string{
	"-c", "max_connections=300",
	"-c", "max_prepared_transactions=100", // off by default; payouts need it
	"-c", "shared_buffers=512MB",
	"-c", "max_wal_size=2GB", // fewer checkpoints
	"-c", "wal_compression=lz4", // of those whole pages
}

// settings are postgresSettings and what opts asks for. A reader of the log that has
// stopped reading may keep a gigabyte of it, and no more.
func settings(opts Options) []string {
	if !opts.LogicalDecoding {
		return postgresSettings
	}
	return slices.Concat(postgresSettings, []string{"-c", "wal_level=logical", "-c", "max_slot_wal_keep_size=1GB"})
}

// localPostgres initialises a data directory; it does not start the server.
func (e *Env) localPostgres(ctx context.Context, initdb string, settings []string) (machine, error) {
	dir := filepath.Join(e.dir, "postgres")
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // the data directory inside is private
		return nil, err
	}
	as, err := dropRoot(dir)
	if err != nil {
		return nil, err
	}
	data, pwfile := filepath.Join(dir, "data"), filepath.Join(dir, "password")
	if err := os.WriteFile(pwfile, []byte(password+"\n"), 0o644); err != nil { //nolint:gosec // it stands in the source, too
		return nil, err
	}
	// No sync of the empty cluster (-N): if the machine dies now, no user misses
	// it. The server itself runs with fsync on.
	cmd := exec.CommandContext(ctx, initdb, "-N", "-D", data, "-U", "postgres",
		"--pwfile", pwfile, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C")
	as.as(cmd)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	args := slices.Concat([]string{filepath.Join(filepath.Dir(initdb), "postgres")}, settings, []string{
		"-D", data, "-p", strconv.Itoa(e.ports.postgres), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "dynamic_shared_memory_type=mmap"}) // in the data directory: a server that is killed leaves nothing in /dev/shm
	// SIGQUIT is the immediate shutdown, which takes the backends along.
	return e.process(process{args: args, dir: dir, log: filepath.Join(dir, "log"), as: as}, syscall.SIGQUIT), nil
}

// account is a user to run a server as.
type account struct{ uid, gid uint32 }

// dropRoot gives dir to a user who is not root, because PostgreSQL refuses to run as root.
// nil: we are not root ourselves.
func dropRoot(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		found, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL must not run as root, and there is neither a user postgres nor one for services without rights: %w", err)
	}
	uid, _ := strconv.Atoi(found.Uid) // they are numbers wherever there is a root; 0 would be refused
	gid, _ := strconv.Atoi(found.Gid)
	return &account{uint32(uid), uint32(gid)}, os.Chown(dir, uid, gid) //nolint:gosec // both are small
}

// localRabbit writes the broker's configuration and starts epmd; it does not start the broker.
func (e *Env) localRabbit(bin string) (machine, error) {
	dir := filepath.Join(e.dir, "rabbit")
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(at("home"), 0o755); err != nil { //nolint:gosec // nothing secret but the cookie
		return nil, err
	}
	for name, content := range map[string]string{
		"enabled_plugins": "[rabbitmq_management].\n",
		"rabbitmq.conf": fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n"+
			"default_user = %s\ndefault_pass = %s\nlog.console = true\nlog.file = false\n", e.ports.amqp, e.ports.api, rabbitUser, password),
		// A cookie of its own: nodes with another one cannot talk to it.
		"home/.erlang.cookie": fmt.Sprintf("FAILWELL%d", e.ports.amqp),
	} {
		if err := os.WriteFile(at(name), []byte(content), 0o400); err != nil {
			return nil, err
		}
	}
	// Started by us and in the foreground; otherwise the broker would leave a daemon behind.
	epmd := e.process(process{args: []string{"epmd", "-port", strconv.Itoa(e.ports.epmd), "-address", "127.0.0.1"}, dir: dir, log: at("log.epmd")}, syscall.SIGKILL)
	if err := epmd.run(); err != nil {
		return nil, err
	}
	environment := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + at("home"),
		fmt.Sprintf("ERL_EPMD_PORT=%d", e.ports.epmd),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=failwell%d@localhost", e.ports.amqp),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODE_PORT=%d", e.ports.amqp),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", e.ports.distribution),
		"RABBITMQ_MNESIA_BASE=" + at("mnesia"),
		"RABBITMQ_LOG_BASE=" + at("logs"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + at("enabled_plugins"),
		"RABBITMQ_CONFIG_FILE=" + at("rabbitmq.conf"),
		"RABBITMQ_PID_FILE=" + at("pid"),
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} " + erlangArgs(),
		// The script then becomes the broker instead of starting one beside itself.
		"RUNNING_UNDER_SYSTEMD=true",
		// Erlang's schedulers would go on spinning when they have nothing to do, on
		// cores that the services need: on two of them that is half of all there is.
		"RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD=none",
	}
	return e.process(process{args: []string{bin}, env: environment, dir: dir, log: at("log")}, syscall.SIGKILL), nil
}

// erlangArgs sets the number of schedulers, and how many messages of a publisher may be
// on their way into the log of a queue.
//
// Half of the cores: what passes between threads of the broker is a wake-up of one by
// the other, on cores that it shares with all that it is there for.
//
// 256 instead of 32: a relay publishes in long pipelines, and they would stop and wait
// for each flush of the log. docker-compose.yml has the same.
func erlangArgs() string {
	return fmt.Sprintf("+S %[1]d:%[1]d +SDcpu %[1]d:%[1]d +SDio 1 -rabbit quorum_commands_soft_limit 256", max(1, runtime.NumCPU()/2))
}
