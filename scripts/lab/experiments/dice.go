package experiments

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"

	"example.com/failwell/scripts/shop"
)

// Dice are what the seed decides about an experiment: the same with the pattern and
// without it, another run for another seed. The verdicts follow from them.
type Dice struct {
	Quantity int // 1 to 3: how many of a thing a customer buys
	Minor    int // 1.01 to 5.00: what is paid out, or given back
	Crowd    int // 10 to 30: how many there are, where it takes many
}

// bookSeed is what the pages show: one mug of 12.50, and the same in the story.
const bookSeed = 1

func throw(seed uint64, id string) Dice {
	if seed == bookSeed {
		return Dice{Quantity: 1, Minor: 500, Crowd: 20}
	}
	dice := rand.New(rand.NewChaCha8(sum(seed, id)))
	return Dice{Quantity: 1 + dice.IntN(3), Minor: 101 + dice.IntN(400), Crowd: 10 + dice.IntN(21)}
}

func sum(seed uint64, story string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %s", seed, story))
}

// mugs is what the customer buys, at 12.50 each.
func (w *World) mugs() shop.Item { return shop.Item{SKU: "mug", Quantity: w.Dice.Quantity} }

// price is what the mugs cost.
func (w *World) price() int { return 1250 * w.Dice.Quantity }

// money writes an amount of pence as people do.
func money(minor int) string { return fmt.Sprintf("%d.%02d", minor/100, minor%100) }
