package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The images, the same as in docker-compose.yml; POSTGRES_IMAGE and
// RABBITMQ_IMAGE replace them.
const (
	postgresImage = "postgres:18.1"
	rabbitImage   = "rabbitmq:4.2.1-management"
)

// perTry bounds one look at whether a server answers: one that takes connections and
// says nothing must not use up the whole time that it has for its start.
const perTry = 5 * time.Second

// Labels of our containers: the machine of their owner, and the directory that is
// there for as long as the owner lives.
const (
	labelHost = "failwell.testenv.host"
	labelDir  = "failwell.testenv.dir"
)

// container is a server in a container whose port stays the same.
type container struct {
	pool  *dockertest.Pool
	id    string
	clean docker.Signal // ends it in good order
	ready func(ctx context.Context) error
}

// startDocker starts containers where an engine answers and has the images or
// can pull them.
func startDocker(ctx context.Context, opts Options) (*Env, error) {
	pool, err := dockertest.NewPool("")
	if err == nil {
		err = pool.Client.Ping() // NewPool is content without an engine
	}
	if err != nil {
		return nil, fmt.Errorf("a Docker engine is %w", errNotHere)
	}
	pg := cmp.Or(os.Getenv("POSTGRES_IMAGE"), postgresImage)
	rabbit := cmp.Or(os.Getenv("RABBITMQ_IMAGE"), rabbitImage)
	for _, image := range []struct {
		name string
		skip bool
	}{{pg, opts.WithoutPostgres}, {rabbit, opts.WithoutRabbit}} {
		if image.skip {
			continue
		}
		if err := havePulled(pool, image.name); err != nil {
			return nil, fmt.Errorf("Docker image %s is %w and cannot be pulled: %v", image.name, errNotHere, err) //nolint:errorlint,staticcheck // only the first is for errors.Is; Docker is a name
		}
	}

	dir, remove, err := tempDir()
	if err != nil {
		return nil, err
	}
	env := &Env{Source: "docker", cleanup: []func(){remove}}
	owner := map[string]string{labelHost: hostname(), labelDir: dir}
	sweepContainers(pool)
	if !opts.WithoutPostgres {
		err = env.startDockerPostgres(ctx, pool, pg, owner)
	}
	if err == nil && !opts.WithoutRabbit {
		err = env.startDockerRabbit(ctx, pool, rabbit, owner)
	}
	if err != nil {
		env.Close()
		return nil, err
	}
	return env, nil
}

func havePulled(pool *dockertest.Pool, image string) error {
	if _, err := pool.Client.InspectImage(image); err == nil {
		return nil
	}
	repository, tag := docker.ParseRepositoryTag(image)
	return pool.Client.PullImage(docker.PullImageOptions{Repository: repository, Tag: tag}, docker.AuthConfiguration{})
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}

// sweepContainers removes what was left by processes that were killed: the engine does
// not end our containers with us. The directory of a dead owner is gone, tempDir has
// just seen to that; that of an owner on another machine we cannot see, and leave.
func sweepContainers(pool *dockertest.Pool) {
	left, _ := pool.Client.ListContainers(docker.ListContainersOptions{All: true, Filters: map[string][]string{"label": {labelHost + "=" + hostname()}}})
	for _, c := range left {
		if _, err := os.Stat(c.Labels[labelDir]); errors.Is(err, fs.ErrNotExist) {
			_ = pool.Client.RemoveContainer(docker.RemoveContainerOptions{ID: c.ID, Force: true, RemoveVolumes: true})
		}
	}
}

func (e *Env) startDockerPostgres(ctx context.Context, pool *dockertest.Pool, image string, owner map[string]string) error {
	port, release, err := HoldPort()
	if err != nil {
		return err
	}
	e.cleanup = append(e.cleanup, release)
	e.PostgresURL = fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres", postgresPassword, port)
	c, err := e.run(pool, image, dockertest.RunOptions{
		Labels:       owner,
		Env:          []string{"POSTGRES_PASSWORD=" + postgresPassword},
		Cmd:          append([]string{"postgres"}, postgresSettings...),
		PortBindings: map[docker.Port][]docker.PortBinding{"5432/tcp": loopback(port)},
	})
	if err != nil {
		return err
	}
	c.ready = func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, e.PostgresURL)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	c.clean = docker.SIGINT // fast shutdown: open transactions roll back; SIGTERM would wait for them
	e.postgres = c
	return c.await(ctx)
}

func (e *Env) startDockerRabbit(ctx context.Context, pool *dockertest.Pool, image string, owner map[string]string) error {
	port, release, err := HoldPort()
	if err != nil {
		return err
	}
	e.cleanup = append(e.cleanup, release)
	apiPort, release, err := HoldPort()
	if err != nil {
		return err
	}
	e.cleanup = append(e.cleanup, release)
	e.AMQPURL = fmt.Sprintf("amqp://failwell:failwell@127.0.0.1:%d/", port)
	e.RabbitAPI = fmt.Sprintf("http://failwell:failwell@127.0.0.1:%d", apiPort)
	c, err := e.run(pool, image, dockertest.RunOptions{
		Hostname: "failwell", // the node is named after it; a restart under another name would find no data
		Labels:   owner,
		Env:      []string{"RABBITMQ_DEFAULT_USER=failwell", "RABBITMQ_DEFAULT_PASS=failwell"},
		PortBindings: map[docker.Port][]docker.PortBinding{
			"5672/tcp": loopback(port), "15672/tcp": loopback(apiPort),
		},
	})
	if err != nil {
		return err
	}
	c.ready = func(ctx context.Context) error {
		conn, err := amqp.DialConfig(e.AMQPURL, amqp.Config{Dial: amqp.DefaultDial(perTry)})
		if err != nil {
			return err
		}
		_ = conn.Close()
		return e.apiAnswers(ctx)
	}
	c.clean = docker.SIGTERM
	e.rabbit = c
	return c.await(ctx)
}

func (e *Env) apiAnswers(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.RabbitAPI+"/api/vhosts", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func loopback(port int) []docker.PortBinding {
	return []docker.PortBinding{{HostIP: "127.0.0.1", HostPort: strconv.Itoa(port)}}
}

func (e *Env) run(pool *dockertest.Pool, image string, options dockertest.RunOptions) (*container, error) {
	options.Repository, options.Tag = docker.ParseRepositoryTag(image)
	resource, err := pool.RunWithOptions(&options, func(host *docker.HostConfig) {
		host.PublishAllPorts = false // it would publish every other port of the image to the network outside
	})
	if err != nil {
		return nil, fmt.Errorf("docker: start %s: %w", image, err)
	}
	// Should we be killed, the engine removes the container after an hour: it
	// cannot know that we are gone.
	_ = resource.Expire(3600)
	e.cleanup = append(e.cleanup, func() { _ = pool.Purge(resource) })
	return &container{pool: pool, id: resource.Container.ID}, nil
}

func (c *container) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	for {
		err := c.look(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("docker: container %s does not answer: %w", c.id[:12], err)
		}
	}
}

func (c *container) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, perTry)
	defer cancel()
	return c.ready(ctx)
}

func (c *container) start(ctx context.Context) error {
	if err := c.pool.Client.StartContainer(c.id, nil); err != nil {
		return fmt.Errorf("docker: start container: %w", err)
	}
	return c.await(ctx)
}

// stop does not ask the engine to stop it: that sends the signal which dockertest has
// put into the container's configuration, SIGWINCH. Nobody ends on that, and half a
// minute later everybody is killed.
func (c *container) stop(ctx context.Context) error { return c.signal(ctx, c.clean) }

func (c *container) kill(ctx context.Context) error { return c.signal(ctx, docker.SIGKILL) }

// signal returns when the container has ended; sooner, a start would find it running.
func (c *container) signal(ctx context.Context, signal docker.Signal) error {
	if err := c.pool.Client.KillContainer(docker.KillContainerOptions{ID: c.id, Signal: signal, Context: ctx}); err != nil {
		return fmt.Errorf("docker: signal %d: %w", signal, err)
	}
	if _, err := c.pool.Client.WaitContainerWithContext(c.id, ctx); err != nil {
		return fmt.Errorf("docker: container %s does not end after signal %d: %w", c.id[:12], signal, err)
	}
	return nil
}
