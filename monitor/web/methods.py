"""What each check asks, how it finds out, and what it cannot see, for people who do not know the statistics."""

from __future__ import annotations

from typing import NamedTuple


class Method(NamedTuple):
    """A check in plain words: its question, its way to an answer, when it is out of bounds, what it is blind to."""

    asks: str
    how: str
    breach: str
    blind: str


_BINS = (
    "Rows that came together are counted as one group, so that many copies of one picture do not pass for many "
    "witnesses. Groups of the baseline and of the window are then shuffled thousands of times; p is the share of "
    "shuffles that look at least as different as what was seen."
)
_BOTH = "Both are needed: a difference that chance hardly makes (a small p), and one that is large enough to matter."

METHODS = {
    "availability": Method(
        "Do requests come with this input in a usable state?",
        "Requests that had it are counted against all requests. The interval (Wilson’s) says what share the feed "
        "could really have, given that so many were counted.",
        "The whole interval lies below the target, so that a few unlucky requests among few raise nothing.",
        "An input that is there and readable but wrong counts as present.",
    ),
    "embedding_mmd": Method(
        "Do the inputs, as the model’s encoder sees them, still look like those of the baseline?",
        "Each input is a point in the encoder’s space. The mean of the window’s points, and of curved features of "
        f"them, is compared with the baseline’s (a maximum mean discrepancy). {_BINS}",
        f"{_BOTH} The value is the distance in standard deviations of baseline rows.",
        "Sessions that last much longer than a group of rows; a change so small that the value stays below the "
        "threshold, which the check for gradual change is there for.",
    ),
    "embedding_mmd_exact": Method(
        "Do two samples of embeddings come from one distribution?",
        f"All pairs of rows are compared by a Gaussian kernel (Gretton 2012). {_BINS}",
        _BOTH,
        "It reads rows, so it is for samples and notebooks; the service judges by summaries.",
    ),
    "embedding_kl": Method(
        "How far apart are the mean and the covariance of two samples of embeddings?",
        f"The Kullback-Leibler divergence of two Gaussians, debiased by a jackknife. {_BINS}",
        _BOTH,
        "Shapes that have the same mean and covariance.",
    ),
    "domain_classifier": Method(
        "Can a classifier tell the window’s rows from the baseline’s?",
        "A linear classifier is fitted on most rows and scored on the rest. The value is the area under its ROC "
        "curve: 50% where the two cannot be told apart.",
        _BOTH,
        "Differences that no quadratic boundary shows.",
    ),
    "quality": Method(
        "Has a plain property of the input moved: brightness, noise, length of a text?",
        "The mean of each property over the window is compared with the baseline’s by a t-test on groups of rows; p "
        "is multiplied by the number of properties, because each had its chance.",
        f"{_BOTH} The value is the largest difference, in standard deviations of baseline rows.",
        "A property whose spread changes while its mean stays: the check of the quality’s shape sees that.",
    ),
    "quality_shape": Method(
        "Are plain properties of the input spread otherwise, even where their means stayed?",
        "Each property is cut into eight ranges that held equally many baseline rows. The value is the share of rows "
        f"that would have to change ranges to look like the baseline. {_BINS}",
        _BOTH,
        "Changes within one of the eight ranges.",
    ),
    "class_drift": Method(
        "Does the model answer with the same mix of classes as in the baseline?",
        "The counts of answers by class are compared by a G-test, which is made stricter where answers come in runs. "
        "The value is the divergence of the two mixes (Kullback-Leibler, in nats; 0 where they are the same).",
        _BOTH,
        "It cannot say by itself whether the world or the model changed.",
    ),
    "confidence_drift": Method(
        "Are answers as sure of themselves as in the baseline?",
        "The distribution of confidence is compared with the baseline’s. The value is the Jensen-Shannon distance: 0 "
        f"where they are the same, 1 where nothing overlaps. {_BINS}",
        _BOTH,
        "Whether answers are right: a model can be surer, and wrong more often.",
    ),
    "pairing": Method(
        "Do the image and the text of one request still belong together?",
        "Each pair gets a score of how well it fits by what pairs of the baseline taught, less what image and text "
        "alone would lead one to expect. Means of groups of rows are compared by two t-tests, one for each side.",
        f"Both sides fell. {_BOTH}",
        "A few mispaired requests among many: 1% takes thousands of rows.",
    ),
    "agreement": Method(
        "In what share of requests do all of the model’s heads say the same?",
        "The share is compared with the baseline’s by a t-test on groups of rows.",
        f"It fell. {_BOTH}",
        "Heads that are wrong together.",
    ),
    "misalignment": Method(
        "Are the inputs of one request of the same moment?",
        "Pairs are scored as they came, and with neighbours of up to four requests before and after. Where one input "
        "runs late, the pairs fit better when shifted.",
        "One other shift fits better than every other, by evidence and by the lead that the threshold says.",
        "Less than half of the window running late, or senders that run late by different amounts.",
    ),
    "contribution": Method(
        "Does the model still go by each of its inputs as much as it did?",
        "On a sample, one input at a time is exchanged for another request’s. What the answer loses of its confidence "
        "is what that input contributed.",
        f"A contribution fell or rose. {_BOTH}",
        "What the model would have answered: only its confidence is looked at.",
    ),
    "cost": Method(
        "How much of the model’s time does a request take?",
        "The model’s milliseconds over all requests of the window, divided by those requests. It is a sum over every "
        "request, no sample: there is no interval and no p.",
        "It is above the target, or has risen against a baseline made of traffic.",
        "Single slow batches.",
    ),
    "calibration": Method(
        "When the model says 80%, is it right in 80 of 100 answers?",
        "Labelled answers are sorted by confidence into groups of equal size; in each, confidence is compared with "
        "the share that was right. The value is the mean gap, less what chance alone would make of it. p comes of a "
        "test that each answer is right with probability equal to its confidence.",
        _BOTH,
        "Answers that nobody labelled; labels that were chosen because the answer looked wrong.",
    ),
    "accuracy": Method(
        "Are answers right as often as on the baseline’s rows?",
        "Labelled answers that are right, over all labelled answers. Answers that were likely to be chosen for a "
        "label count less, so that the share stands for all answers.",
        f"It fell. {_BOTH}",
        "Labels that people send of their own accord are no fair sample, and nothing here can tell.",
    ),
    "estimated_accuracy": Method(
        "Without labels: how often would answers as sure as these have been right in the baseline?",
        "The baseline’s labels say how often answers of each confidence were right; today’s confidences are looked up "
        "there. The interval comes of drawing baseline rows and window groups anew.",
        "The whole interval lies below the target, where one is set.",
        "A changed meaning: where the right answers themselves have changed, confidence stays and the estimate is "
        "too high.",
    ),
    "label_prior": Method(
        "Has the mix of true classes moved, and are answers worse within classes?",
        "Labels by class are compared with the baseline’s by a G-test; beside it each class’s share right.",
        _BOTH,
        "A labelling queue that prefers one class looks like a shift.",
    ),
    "review_rate": Method(
        "What share of requests did a person review?",
        "Reviews that came in the window over the answers of that time, with Wilson’s interval.",
        "The whole interval lies above the target, where one is set.",
        "Reviews come later than their requests: it is a rate of flow.",
    ),
    "false_positives": Method(
        "How often is a class answered where it is not the truth?",
        "For each class, answers of it among labelled rows of other classes; the value is the mean over classes.",
        "The whole interval lies above the target, where one is set.",
        "Answers that nobody labelled.",
    ),
    "sequential": Method(
        "Has something changed by little, for good?",
        "Every metric’s values of all windows are watched together. Evidence grows with each window that speaks for a "
        "change and shrinks otherwise; an alarm is raised where it reaches the threshold. The threshold is set so "
        "that false alarms stay below the promised number in 30 days, however often one looks.",
        "The evidence reached the threshold and the change lasts.",
        "Anything before it has learnt for a week what is usual.",
    ),
    "sequential_page": Method(
        "Is an input missing more often than it used to be, by little but for good?",
        "As for gradual change, over the shares of requests that have each input; it allows fewer false alarms.",
        "The evidence reached the threshold and the change lasts.",
        "Anything before it has learnt for a week what is usual.",
    ),
    "burn_rate": Method(
        "Is an objective’s error budget used up faster than it lasts?",
        "Bad events are divided by what the target allows in two windows, a long and a short one. 1 means that the "
        "budget of 30 days lasts exactly 30 days.",
        "Both windows burn faster than the rule’s factor, on enough events.",
        "What the objective does not count.",
    ),
    "burn_rate_page": Method(
        "Is an objective’s error budget used up so fast that somebody must look now?",
        "As for a slow burn, by shorter windows and higher factors.",
        "Both windows burn faster than the rule’s factor, on enough events.",
        "What the objective does not count.",
    ),
    "silence": Method(
        "Are predictions being logged at all?",
        "The time since the newest row that a worker wrote.",
        "It is longer than the threshold.",
        "Whether nobody sends, or nobody answers: look at the worker and its consumer lag.",
    ),
    "messages_lost": Method(
        "Did messages leave the topic before they were read?",
        "The worker’s place is compared with the first message that the topic still has.",
        "Any message was lost.",
        "What the messages were.",
    ),
    "log_reset": Method(
        "Does the topic’s log still hold the place up to which it was read?",
        "The worker’s place is compared with the end of the topic’s log.",
        "The log ends before that place: it was made anew.",
        "What had not been read of the old log.",
    ),
    "label_queue": Method(
        "Are labels waiting to be given?",
        "Answers drawn for labelling that have no label yet.",
        "There are some, and a decision on a retrain waits for them.",
        "Why nobody labels.",
    ),
    "baseline": Method(
        "Has the model that answers a baseline to compare with?",
        "Baselines of its version are looked up.",
        "There is none: every check of drift has nothing to say.",
        "Whether the baseline is a good one.",
    ),
    "rollout": Method(
        "Did checks take a challenger away?",
        "The newest rollout’s outcome is looked up; its own page has every check.",
        "It was rolled back by its checks.",
        "Why the challenger is worse: its comparisons say in what.",
    ),
    "security": Method(
        "Does the audit log still hold, and are embeddings read as they usually are?",
        "The chain of the audit log is followed, and reads of embeddings are counted by login.",
        "A row is missing or was changed, or embeddings were read more often, or by somebody new.",
        "Why: a read may have a good reason that nobody told.",
    ),
    "log_partitions": Method(
        "Is there a place for the log rows of today and of the days to come?",
        "The log’s partitions by day are looked up.",
        "A day that is needed has none: workers cannot write the log.",
        "Why nobody made them: the monitor does so by schedule, and its own log says what stopped it.",
    ),
    "retrain_job": Method(
        "Did the last retrain job end as it should?",
        "The state of the newest job is looked up.",
        "It failed.",
        "Why: the job’s own error says.",
    ),
}
_UNKNOWN = Method("", "", "", "")

CONCLUSIONS = {
    "ok": "Within bounds. Nothing has to be done.",
    "drift": "Out of bounds in this window. An alert is raised where it lasts as long as its rule asks.",
    "insufficient": "Too little data to tell. This is not “ok”: a change could be there and not show.",
    "no_data": "The window has nothing of what this check looks at.",
    "no_baseline": "There is nothing to compare with: the baseline is missing, or lacks what this check needs.",
}


def method(detector: str) -> Method:
    """A check in words; empty ones where it is not known here."""
    return METHODS.get(detector, _UNKNOWN)
