package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/testenv"
)

// The servers, as the page names them.
const (
	postgreSQL = "PostgreSQL"
	rabbitMQ   = "RabbitMQ"
)

// serverAnswers bounds how long a server may take to be there again.
const serverAnswers = 2 * time.Minute

// slowBy is how late everything on a slow network is, each way, in milliseconds.
const slowBy = 400

// process kills, restarts, pauses and resumes a service or a server.
func (p *Page) process(ctx context.Context, in asked) (any, error) {
	if p.Signal == nil {
		return nil, fmt.Errorf("%w here: the processes are not ours; arm a crash, or use make run", errAsked)
	}
	if in.Name == postgreSQL || in.Name == rabbitMQ {
		return struct{}{}, p.server(ctx, in.Name, in.Do)
	}
	if !slices.Contains(stack.Services, in.Name) {
		return nil, fmt.Errorf("%w: no service %q", errAsked, in.Name)
	}
	sig, ok := map[string]syscall.Signal{"kill": syscall.SIGKILL, "restart": syscall.SIGTERM, "pause": testenv.Pause, "resume": testenv.Resume}[in.Do]
	if !ok {
		return nil, fmt.Errorf("%w: %q is none of kill, restart, pause, resume", errAsked, in.Do)
	}
	if in.Do == "restart" {
		p.Signal(in.Name, testenv.Resume) // paused, it would not hear
	}
	if !p.Signal(in.Name, sig) {
		return nil, fmt.Errorf("%w: %s is dead at the moment", errAsked, in.Name)
	}
	p.held(ctx, in.Name, in.Name, in.Do, "SIGSTOP", "SIGCONT") // a death is told by the parent
	return struct{}{}, nil
}

// held notes that something is paused, or goes on.
func (p *Page) held(ctx context.Context, name, lane, do, stopped, goesOn string) {
	p.mu.Lock()
	was := p.paused[name]
	delete(p.paused, name)
	if do == "pause" {
		p.paused[name] = true
	}
	p.mu.Unlock()
	switch {
	case do == "pause":
		p.note(ctx, Paused, lane, fmt.Sprintf("%s is paused (%s)", name, stopped))
	case do == "resume" && was:
		p.note(ctx, Resumed, lane, fmt.Sprintf("%s goes on (%s)", name, goesOn))
	}
}

// server does to PostgreSQL or RabbitMQ what was asked for. One that was ended is started
// again at once, as a supervisor would; that takes RabbitMQ some seconds, in which the page
// says so.
func (p *Page) server(ctx context.Context, name, do string) error {
	if p.Servers == nil {
		return fmt.Errorf("%w here: %s is not ours; use make run", errAsked, name)
	}
	s, lane := p.Servers, "broker"
	kill, stop, start, pause := s.KillRabbit, s.StopRabbit, s.StartRabbit, s.PauseRabbit
	if name == postgreSQL {
		lane, kill, stop, start, pause = postgreSQL, s.KillPostgres, s.StopPostgres, s.StartPostgres, s.PausePostgres
	}
	switch do {
	case "pause", "resume":
		if err := pause(do == "pause"); err != nil {
			return err
		}
		p.held(ctx, name, lane, do, "SIGSTOP", "SIGCONT")
		return nil
	case "kill":
	case "restart":
		kill = stop
	default:
		return fmt.Errorf("%w: %q is none of kill, restart, pause, resume", errAsked, do)
	}
	p.held(ctx, name, lane, do, "", "")
	begun := time.Now()
	if err := kill(ctx); err != nil {
		return err
	}
	p.note(ctx, Died, lane, fmt.Sprintf("%s has ended: %s", name, do))
	go func() {
		ctx, cancel := context.WithTimeout(p.ctx, serverAnswers)
		defer cancel()
		if err := start(ctx); err != nil {
			p.note(ctx, Lab, lane, err.Error())
			return
		}
		p.note(ctx, Started, lane, fmt.Sprintf("%s answers again after %.1f s", name, time.Since(begun).Seconds()))
	}()
	return nil
}

// serverState is how a server is.
func (p *Page) serverState(ctx context.Context, name string) string {
	p.mu.Lock()
	paused := p.paused[name]
	p.mu.Unlock()
	if paused {
		return "paused"
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := errors.New("not opened")
	if name == rabbitMQ {
		err = p.read(ctx, p.RabbitAPI+"/api/overview", &struct{}{})
	} else if d, open := p.databases(); open == nil {
		err = d.Orders.Ping(ctx)
	}
	if err != nil {
		return "does not answer"
	}
	return "runs"
}

// network cuts, slows down and heals the way to a server, a service or the outside world.
func (p *Page) network(ctx context.Context, in asked) (any, error) {
	if p.Network == nil {
		return nil, fmt.Errorf("%w here: the network is not ours; use make run", errAsked)
	}
	if !slices.Contains(stack.Links, in.Name) {
		return nil, fmt.Errorf("%w: no network to %q", errAsked, in.Name)
	}
	err, done := p.Network.Heal(context.WithoutCancel(ctx), in.Name), "whole again"
	switch in.Do {
	case "cut":
		p.Network.Cut(in.Name)
		done = "cut"
	case "slow":
		err = errors.Join(err, p.Network.Delay(in.Name, slowBy))
		done = fmt.Sprintf("slow, by %d ms each way", slowBy)
	case "heal":
	default:
		return nil, fmt.Errorf("%w: %q is none of cut, slow, heal", errAsked, in.Do)
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	delete(p.links, in.Name)
	if in.Do != "heal" {
		p.links[in.Name] = in.Do
	}
	p.mu.Unlock()
	lane := map[string]string{"postgres": postgreSQL, "rabbitmq": "broker", stack.Sandbox: "processor"}[in.Name]
	if lane == "" {
		lane = in.Name
	}
	p.note(ctx, Lab, lane, fmt.Sprintf("the network to %s is %s", in.Name, done))
	return struct{}{}, nil
}
