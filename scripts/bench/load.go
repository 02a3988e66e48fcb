package main

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/failwell/scripts/bench/figures"
)

// sample is what a contender did in its time.
type sample struct {
	perSecond float64
	p50, p99  time.Duration
}

// drive runs call from so many clients, one after the other in each, for a round.
func (b *bench) drive(ctx context.Context, clients int, call func(ctx context.Context, client int) error) (sample, error) {
	took := make([][]time.Duration, clients)
	begun := time.Now()
	var running errgroup.Group
	for client := range clients {
		running.Go(func() error {
			for time.Since(begun) < b.round {
				sent := time.Now()
				if err := call(ctx, client); err != nil {
					return err
				}
				took[client] = append(took[client], time.Since(sent))
			}
			return nil
		})
	}
	err := running.Wait()
	elapsed := time.Since(begun)
	if err != nil {
		return sample{}, err
	}
	return summary(slices.Concat(took...), elapsed), nil
}

func summary(took []time.Duration, elapsed time.Duration) sample {
	slices.Sort(took)
	return sample{
		perSecond: float64(len(took)) / elapsed.Seconds(),
		p50:       took[len(took)/2],
		p99:       took[len(took)*99/100],
	}
}

// contender is one of those that are compared.
type contender struct {
	name   string
	target float64 // how much of its rate ours shall reach; 0: it is only shown
	run    func() (sample, error)
}

// against runs contenders in turn, round after round, so that a slow minute of the
// machine hits all of them; the first is ours. It returns the medians, and adds a
// line for each ratio.
func (b *bench) against(line string, unit string, contenders ...contender) ([]sample, error) {
	samples := make([][]sample, len(contenders))
	for range b.rounds {
		for i, c := range contenders {
			s, err := c.run()
			if err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], s)
		}
	}
	medians := make([]sample, len(contenders))
	for i := range contenders {
		medians[i] = median(samples[i])
	}
	for i, c := range contenders[1:] {
		ratios := make([]float64, b.rounds)
		for round := range ratios {
			ratios[round] = samples[0][round].perSecond / samples[i+1][round].perSecond
		}
		slices.Sort(ratios)
		b.report.add(figures.Row{
			Line: line, Unit: unit, Ours: medians[0].perSecond, Beside: c.name, Theirs: medians[i+1].perSecond,
			P50: medians[0].p50, P99: medians[0].p99,
			Min: ratios[0], Median: ratios[len(ratios)/2], Max: ratios[len(ratios)-1], Target: c.target,
		})
	}
	return medians, nil
}

func median(samples []sample) sample {
	byRate := slices.Clone(samples)
	slices.SortFunc(byRate, func(a, b sample) int { return int(a.perSecond*1000 - b.perSecond*1000) })
	return byRate[len(byRate)/2]
}
