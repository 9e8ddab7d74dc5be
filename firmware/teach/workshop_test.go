package teach

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tuxwatch/firmware/vision"
)

// The photographs of the workshop that tuxwatch follows; they may not be
// published, so they are not in the repository.
const workshop = "../../../shared/pictures/workshop"

// TestWorkshopPhotographs teaches the workshop's toy with 10 + 3 of its
// photographs and asks about the other 9 + 2, over 20 random splits.
func TestWorkshopPhotographs(t *testing.T) {
	if _, err := os.Stat(workshop); err != nil {
		t.Skipf("the workshop's photographs are not on this machine: %v", err)
	}
	const splits, bar = 20, 0.95
	base, _ := openBase(t, baseModel)
	whole := &learner{Options: Options{
		Positive: filepath.Join(workshop, "penguin"), Negative: filepath.Join(workshop, "noPenguin"),
		Labels: [2]string{"penguin", "noPenguin"}, Seed: 1, MaxPictureBytes: vision.DefaultMaxBytes,
	}, base: base}
	if raceDetector {
		whole.Copies = 1 // it makes each many times slower
	}
	// The embeddings do not depend on the split: they are made once.
	if err := whole.gather(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := whole.embed(t.Context()); err != nil {
		t.Fatal(err)
	}
	var kinds [2][]*picture
	for _, p := range whole.pictures {
		kinds[kindOf(p.positive)] = append(kinds[kindOf(p.positive)], p)
	}
	if len(kinds[0]) != 19 || len(kinds[1]) != 5 {
		t.Fatalf("%d and %d photographs, want 19 and 5", len(kinds[0]), len(kinds[1]))
	}
	random := rand.New(rand.NewPCG(2026, 20))
	right, asked := 0, 0
	for split := range splits {
		part := &learner{Options: whole.Options, base: base, copies: whole.copies}
		part.Seed = uint64(split)
		var others []*picture
		for k, n := range []int{10, 3} {
			order := random.Perm(len(kinds[k]))
			for i, at := range order {
				if i < n {
					p := *kinds[k][at]
					part.pictures = append(part.pictures, &p)
				} else {
					others = append(others, kinds[k][at])
				}
			}
		}
		part.candidates = whole.candidates
		part.groupAlike()
		model, err := part.train(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range others {
			asked++
			if said := model.Head.Probability(p.embeddings[0]); (said > 0.5) == p.positive {
				right++
			} else {
				t.Logf("split %d: %s: %.3f (threshold %.2f, temperature %.2f, penalty %g)", split, filepath.Base(p.file), said,
					model.Head.Threshold, model.Head.Temperature, model.Report.Penalty)
			}
		}
	}
	share := float64(right) / float64(asked)
	t.Logf("right on %d of %d (%.1f %%)", right, asked, 100*share)
	if asked != splits*11 || share < bar {
		t.Errorf("right on %.1f %%, the bar is %.0f %%", 100*share, 100*bar)
	}
}
