"""Document 1's statements, and the bounds that decide on them."""

from __future__ import annotations

from common.bounds import about, above, at_least, at_most, below, exactly
from common.claims import Claim, Target

# Seeds of one network differ by this and more (0.10 over five, all repairs): less shows nothing.
SEED_SPREAD = 0.05
UPDATES = 80  # of five epochs on 1,000 lines, in batches of 64

# The options of the runs that test the claims: on the first draft and the learning rates, on the
# final run, and on what each repair is worth. Of its final run the document states the epochs and
# the learning rate. It leaves open on how many lines, and its MSELoss averages where ours sums: so
# there are three readings, with a claim each for training and for unseen lines.
DOCUMENT = {"image_size": 128, "limit": None, "precision": "fp32"}
FINAL_RUN = {**DOCUMENT, "epochs": 500, "batch_size": 64, "lr": 0.001}
OURS = {**FINAL_RUN, "lines": 10_000, "loss": "sum"}
LITERAL = {**FINAL_RUN, "lines": 1_000, "loss": "mean"}
BETWEEN = {**FINAL_RUN, "lines": 1_000, "loss": "sum"}
ABLATION = {**DOCUMENT, "ablation": True}



def learning_rates(ids: str, error: str, unit: str) -> tuple[Claim, ...]:
    """What the document says of three learning rates, where a loss averages errors in this unit.

    `ids` are the letters of the four claims; `unit` is part of the metrics' names.
    """
    numbers = [f"1.8{letter}" for letter in ids]
    share = f"after 5 epochs, {error}: share of outputs at 0 or 1"
    return (
        Claim(numbers[0], f"learning rate 0.1, {share}", "either 1 or 0",
              f"saturated_{unit}_0.1", at_least(0.5), "{:.1%}", DOCUMENT),
        Claim(numbers[1], f"learning rate 0.01, {share}", "the same, but later",
              f"saturated_{unit}_0.01", at_least(0.5), "{:.1%}", DOCUMENT, every_seed=True),
        Claim(numbers[2], f"learning rate 0.001, {share}", "not really 1 or 0",
              f"saturated_{unit}_0.001", at_most(0.05), "{:.1%}", DOCUMENT),
        Claim(numbers[3], f"learning rate 0.001, {error}: share of updates after which the mean "
              "output for the same lines rises",
              "rise after one batch, fall after the next",
              f"rising_{unit}_0.001", about(0.5, 0.4), "{:.0%}", DOCUMENT),
    )  # fmt: skip


CLAIMS = (
    Claim("1.4a", "first draft, 100 lines, 1 epoch: median error of an unseen coordinate ÷ that of "
          "always answering the mean", "very bad",
          "draft_100_error_to_mean_answer", above(1), "{:.2f}×", DOCUMENT),
    Claim("1.4b", "first draft, 1,000 lines: first update with weights that are NaN",
          "after a few rounds", "draft_1000_nan_at_update", at_most(UPDATES), "{:.0f}", DOCUMENT),
    Claim("1.4c", "growth of its largest weight per update, in the three updates before",
          "exponential", "draft_1000_growth", at_least(2), "{:.2g}×", DOCUMENT),
    Claim("1.6a", "first draft, only its ends ÷ 128: updates with finite weights, of 80",
          "divide by 128 to avoid exploding gradients",
          "explosion_ends_as_fractions_finite_updates", at_least(UPDATES), "{:.0f}",
          DOCUMENT, every_seed=True),
    Claim("1.6b", "first draft, only its ends ÷ 128: largest gradient ÷ that of the first update",
          "divide by 128 to avoid exploding gradients",
          "explosion_ends_as_fractions_gradient_growth", at_most(10), "{:.2f}×",
          DOCUMENT, every_seed=True),
    # The document has divided the ends by 128 before this: a–d. Errors in pixels, e–h, are another
    # reading.
    *learning_rates("abcd", "errors as fractions", "fractions"),
    *learning_rates("efgh", "errors in pixels", "pixels"),
    Claim("1.9a", "final run, errors summed, 10,000 lines: training coordinates within 2 px",
          "> 94%", "train_summed_10000_within_2", above(0.94), "{:.1%}", OURS),
    Claim("1.9b", "final run, errors summed, 10,000 lines: unseen coordinates within 2 px",
          "> 94%", "unseen_summed_10000_within_2", above(0.94), "{:.1%}", OURS),
    Claim("1.9c", "final run, errors averaged, 1,000 lines: training coordinates within 2 px",
          "> 94%", "train_averaged_1000_within_2", above(0.94), "{:.1%}", LITERAL),
    Claim("1.9d", "final run, errors averaged, 1,000 lines: unseen coordinates within 2 px",
          "> 94%", "unseen_averaged_1000_within_2", above(0.94), "{:.1%}", LITERAL),
    Claim("1.9e", "final run, errors summed, 1,000 lines: training coordinates within 2 px",
          "> 94%", "train_summed_1000_within_2", above(0.94), "{:.1%}", BETWEEN),
    Claim("1.9f", "final run, errors summed, 1,000 lines: unseen coordinates within 2 px",
          "> 94%", "unseen_summed_1000_within_2", above(0.94), "{:.1%}", BETWEEN),
    Claim("1.10a", "no activations: relative difference from one linear map",
          "one big linear function",
          "draft_nonlinearity", below(1e-4), "{:.1e}", DOCUMENT),
    Claim("1.10b", "no activations: change of the unseen coordinates within 10 px of "
          "the nearer order",
          "cannot show a non-linear relation",
          "ablation_no_relu", below(-SEED_SPREAD), "{:+.1f} points", ABLATION),
    Claim("1.10c", "ends in any order, same loss: change of the unseen coordinates within 10 px of "
          "the nearer order",
          "ordered ends may train faster",
          "ablation_any_order", below(-SEED_SPREAD), "{:+.1f} points", ABLATION),
    Claim("1.10d", "dropout: change of the unseen coordinates within 10 px of "
          "the nearer order",
          "may hurt learning, not help", "ablation_dropout", below(0), "{:+.1f} points", ABLATION),
    Claim("1.10e", "ends in any order, a loss that accepts either: epochs to 80% of the unseen "
          "coordinates within 10 px ÷ those of ordered ends", "ordered ends may train faster",
          "slowdown_any_order_own_loss", above(1), "{:.2f}×", ABLATION, every_seed=True),
    # Not the document's: what asking a better question should reach.
    Target("1.11a", "a score for each pixel, five seeds: unseen lines exact to the pixel",
           "our target", "question_lines_exact", exactly(1), "{:.2%}", DOCUMENT, every_seed=True),
    Target("1.11b", "its parameters", "our target", "question_parameters", at_most(100),
          "{:.0f}", DOCUMENT),
)  # fmt: skip
