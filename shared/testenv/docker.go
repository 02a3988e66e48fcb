package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

// The images, the same as in docker-compose.yml; POSTGRES_IMAGE and
// RABBITMQ_IMAGE replace them.
const (
	postgresImage = "postgres:18.6"
	rabbitImage   = "rabbitmq:4.3.6-management"
)

// Labels of our containers: the machine of their owner, and the directory that is
// there for as long as the owner lives.
const (
	labelHost = "failwell.testenv.host"
	labelDir  = "failwell.testenv.dir"
)

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
	e, err := newEnv("docker")
	if err != nil {
		return nil, err
	}
	sweepContainers(pool)
	return e.boot(ctx, opts,
		func() (machine, error) {
			return e.container(pool, cmp.Or(os.Getenv("POSTGRES_IMAGE"), postgresImage), dockertest.RunOptions{
				Env:          []string{"POSTGRES_PASSWORD=" + password},
				Cmd:          append([]string{"postgres"}, settings(opts)...),
				PortBindings: map[docker.Port][]docker.PortBinding{"5432/tcp": loopback(e.ports.postgres)},
			})
		},
		func() (machine, error) {
			return e.container(pool, cmp.Or(os.Getenv("RABBITMQ_IMAGE"), rabbitImage), dockertest.RunOptions{
				Hostname: "failwell", // the node is named after it; a restart under another name would find no data
				Env:      []string{"RABBITMQ_DEFAULT_USER=" + rabbitUser, "RABBITMQ_DEFAULT_PASS=" + password},
				PortBindings: map[docker.Port][]docker.PortBinding{
					"5672/tcp": loopback(e.ports.amqp), "15672/tcp": loopback(e.ports.api),
				},
			})
		})
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

func loopback(port int) []docker.PortBinding {
	return []docker.PortBinding{{HostIP: "127.0.0.1", HostPort: strconv.Itoa(port)}}
}

// container is a server in a container whose port stays the same.
type container struct {
	client *docker.Client
	id     string
	down   bool
}

func (e *Env) container(pool *dockertest.Pool, image string, options dockertest.RunOptions) (machine, error) {
	options.Repository, options.Tag = docker.ParseRepositoryTag(image)
	if _, err := pool.Client.InspectImage(image); err != nil {
		pull := docker.PullImageOptions{Repository: options.Repository, Tag: options.Tag}
		if err := pool.Client.PullImage(pull, docker.AuthConfiguration{}); err != nil {
			return nil, fmt.Errorf("Docker image %s is %w and cannot be pulled: %v", image, errNotHere, err) //nolint:errorlint,staticcheck // only the first is for errors.Is; Docker is a name
		}
	}
	options.Labels = map[string]string{labelHost: hostname(), labelDir: e.dir}
	resource, err := pool.RunWithOptions(&options, func(host *docker.HostConfig) {
		host.PublishAllPorts = false // it would publish every other port of the image to the network outside
	})
	if err != nil {
		return nil, fmt.Errorf("docker: start %s: %w", image, err)
	}
	// Should we be killed, the engine removes the container after a day: it cannot know
	// that we are gone, and a system that a person has started may well run for hours.
	_ = resource.Expire(24 * 3600)
	e.atClose(func() { _ = pool.Purge(resource) })
	return &container{client: pool.Client, id: resource.Container.ID}, nil
}

func (c *container) run() error {
	if err := c.client.StartContainer(c.id, nil); err != nil {
		return fmt.Errorf("docker: start container: %w", err)
	}
	c.down = false
	return nil
}

func (c *container) pause(pause bool) error {
	if pause {
		return c.client.PauseContainer(c.id)
	}
	return c.client.UnpauseContainer(c.id)
}

func (c *container) ended() bool   { return c.down }
func (c *container) about() string { return "docker: container " + c.id[:12] }

// signal returns when the container has ended; sooner, a start would find it running.
//
// It does not ask the engine to stop the container: that sends the signal which dockertest
// has put into the container's configuration, SIGWINCH. No process ends on that, and half a
// minute later everybody is killed.
func (c *container) signal(ctx context.Context, sig syscall.Signal) error {
	_ = c.pause(false) // an error when it is not paused
	if err := c.client.KillContainer(docker.KillContainerOptions{ID: c.id, Signal: docker.Signal(sig), Context: ctx}); err != nil {
		return fmt.Errorf("docker: signal %d: %w", sig, err)
	}
	if _, err := c.client.WaitContainerWithContext(c.id, ctx); err != nil {
		return fmt.Errorf("docker: container %s does not end after signal %d: %w", c.id[:12], sig, err)
	}
	c.down = true
	return nil
}
