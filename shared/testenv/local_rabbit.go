package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

type localRabbit struct {
	bin, dir                      string
	port, apiPort, distPort, epmd int
	release                       []func()
	names                         *process // epmd
	process                       *process
}

func newLocalRabbit(bin, dir string) (*localRabbit, error) {
	r := &localRabbit{bin: bin, dir: dir}
	for _, port := range []*int{&r.port, &r.apiPort, &r.distPort, &r.epmd} {
		p, release, err := HoldPort()
		if err != nil {
			return nil, err
		}
		*port = p
		r.release = append(r.release, release)
	}
	for name, content := range map[string]string{
		"enabled_plugins": "[rabbitmq_management].\n",
		"rabbitmq.conf": fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n"+
			"log.console = true\nlog.file = false\n", r.port, r.apiPort),
	} {
		if err := os.MkdirAll(filepath.Join(dir, "home"), 0o755); err != nil { //nolint:gosec // nothing secret but the cookie
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // not secret
			return nil, err
		}
	}
	// A cookie of its own: nodes with another one cannot talk to it.
	return r, os.WriteFile(filepath.Join(dir, "home", ".erlang.cookie"), []byte(fmt.Sprintf("FAILWELL%d", r.port)), 0o400)
}

func (r *localRabbit) url() string { return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", r.port) }
func (r *localRabbit) api() string { return fmt.Sprintf("http://guest:guest@127.0.0.1:%d", r.apiPort) }
func (r *localRabbit) log() string { return filepath.Join(r.dir, "log") }

func (r *localRabbit) environment() []string {
	at := func(name string) string { return filepath.Join(r.dir, name) }
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + at("home"),
		fmt.Sprintf("ERL_EPMD_PORT=%d", r.epmd),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=failwell%d@localhost", r.port),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODE_PORT=%d", r.port),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", r.distPort),
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

func (r *localRabbit) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if r.names == nil {
		// Started by us and in the foreground; otherwise the broker would leave
		// a daemon behind.
		epmd := exec.Command("epmd", "-port", fmt.Sprint(r.epmd), "-address", "127.0.0.1") //nolint:noctx // it outlives this call
		epmd.Dir = r.dir
		names, err := startProcess(epmd, r.log()+".epmd", nil)
		if err != nil {
			return err
		}
		r.names = names
	}
	cmd := exec.Command(r.bin) //nolint:noctx // it outlives this call
	cmd.Env, cmd.Dir = r.environment(), r.dir
	p, err := startProcess(cmd, r.log(), nil)
	if err != nil {
		return err
	}
	r.process = p
	for {
		conn, err := amqp.Dial(r.url())
		if err == nil {
			return conn.Close()
		}
		if p.ended() {
			return fmt.Errorf("RabbitMQ ended while starting\n%s", tail(r.log()))
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("RabbitMQ does not come up: %w\n%s", err, tail(r.log()))
		}
	}
}

func (r *localRabbit) stop(ctx context.Context) error {
	return r.process.signal(ctx, syscall.SIGTERM, false)
}

func (r *localRabbit) kill(ctx context.Context) error {
	return r.process.signal(ctx, syscall.SIGKILL, true)
}

func (r *localRabbit) close(ctx context.Context) error {
	var errs []error
	for _, p := range []*process{r.process, r.names} {
		if p != nil {
			errs = append(errs, p.signal(ctx, syscall.SIGKILL, true))
		}
	}
	for _, release := range r.release {
		release()
	}
	return errors.Join(errs...)
}
