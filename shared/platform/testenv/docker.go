package testenv

import (
	"cmp"
	"context"
	"fmt"
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

// container is a server in a container whose port stays the same.
type container struct {
	pool  *dockertest.Pool
	id    string
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

	env := &Env{Source: "docker"}
	if !opts.WithoutPostgres {
		err = env.startDockerPostgres(ctx, pool, pg)
	}
	if err == nil && !opts.WithoutRabbit {
		err = env.startDockerRabbit(ctx, pool, rabbit)
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

func (e *Env) startDockerPostgres(ctx context.Context, pool *dockertest.Pool, image string) error {
	port, release, err := HoldPort()
	if err != nil {
		return err
	}
	e.cleanup = append(e.cleanup, release)
	e.PostgresURL = fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres", postgresPassword, port)
	c, err := e.run(pool, image, dockertest.RunOptions{
		Env:          []string{"POSTGRES_PASSWORD=" + postgresPassword},
		Cmd:          []string{"postgres", "-c", "max_connections=300", "-c", "max_prepared_transactions=100"},
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
	e.postgres = c
	return c.await(ctx)
}

func (e *Env) startDockerRabbit(ctx context.Context, pool *dockertest.Pool, image string) error {
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
		Env:      []string{"RABBITMQ_DEFAULT_USER=failwell", "RABBITMQ_DEFAULT_PASS=failwell"},
		PortBindings: map[docker.Port][]docker.PortBinding{
			"5672/tcp": loopback(port), "15672/tcp": loopback(apiPort),
		},
	})
	if err != nil {
		return err
	}
	c.ready = func(ctx context.Context) error {
		conn, err := amqp.Dial(e.AMQPURL)
		if err != nil {
			return err
		}
		_ = conn.Close()
		return e.apiAnswers(ctx)
	}
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
	resource, err := pool.RunWithOptions(&options)
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
		err := c.ready(ctx)
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

func (c *container) start(ctx context.Context) error {
	if err := c.pool.Client.StartContainer(c.id, nil); err != nil {
		return fmt.Errorf("docker: start container: %w", err)
	}
	return c.await(ctx)
}

func (c *container) stop(ctx context.Context) error {
	return c.pool.Client.StopContainerWithContext(c.id, 30, ctx)
}

func (c *container) kill(ctx context.Context) error {
	return c.pool.Client.KillContainer(docker.KillContainerOptions{ID: c.id, Signal: docker.SIGKILL, Context: ctx})
}
