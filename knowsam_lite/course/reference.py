"""The course's reference: every equation of the method with the code that computes it, symbols and terms."""

from dataclasses import dataclass

CHAPTERS = {
    "00": "the tour",
    "01": "data and metrics",
    "02": "the U-Net",
    "03": "the V-Net",
    "04": "learning without labels",
    "05": "uncertainty and HAM",
    "06": "SAM and its adapter",
    "07": "learnable prompts",
    "08": "SKD",
    "09": "UGDA",
    "10": "the complete run",
    "11": "reading results",
    "12": "beyond",
    "13": "a real start",
    "14": "teachers that wait",
    "15": "the loop",
}


@dataclass(frozen=True)
class Equation:
    """One formula, the addresses of the code that computes it, and the loss terms of KnowSAM that it makes.

    `terms` are names in `KnowSAM.losses`, without the prefix "mixed/": on the mixed batch the formulas are
    the same.
    """

    name: str
    latex: str
    code: tuple[str, ...]
    chapter: str
    source: str
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Symbol:
    """A letter of the paper, the name it has in code, its shape and its meaning."""

    latex: str
    code: str
    shape: str
    meaning: str


PAPER = "KnowSAM"
OURS = "ours, where the paper's formula was not available"

EQUATIONS = (
    Equation(
        "Dice score",
        r"\mathrm{Dice} = \frac{2\,|P \cap T|}{|P| + |T|}",
        ("knowsam_lite.metrics.dice",),
        "01",
        "standard; 1 if both masks are empty",
    ),
    Equation(
        "intersection over union",
        r"\mathrm{IoU} = \frac{|P \cap T|}{|P \cup T|} = \frac{\mathrm{Dice}}{2 - \mathrm{Dice}}",
        ("knowsam_lite.metrics.iou",),
        "01",
        "standard; 1 if both masks are empty",
    ),
    Equation(
        "95 % Hausdorff distance",
        r"\mathrm{HD95} = \mathrm{percentile}_{95}\big(\{d(p, S(T)) : p \in S(P)\} \cup \{d(q, S(P)) : q \in S(T)\}\big)",
        ("knowsam_lite.metrics.hd95", "knowsam_lite.metrics.surface"),
        "01",
        "medpy's definition, S the border of a mask; empty masks by the rule of metrics.py",
    ),
    Equation(
        "subnet F_a",
        r"e_0 = B_0(x), \ e_i = B_i(\mathrm{pool}(e_{i-1})), \quad \hat e_4 = e_4, \ \hat e_i = \hat B_i([e_i, \mathrm{up}_i(\hat e_{i+1})]), \quad z_a = \mathrm{head}(\hat e_0)",
        ("knowsam_lite.subnets.encode", "knowsam_lite.subnets.decode", "knowsam_lite.subnets.UNet"),
        "02",
        "Ronneberger et al., 2015, in the widths of KnowSAM",
    ),
    Equation(
        "probabilities",
        r"p_c = \frac{e^{z_c}}{\sum_{k=0}^{C-1} e^{z_k}}",
        ("torch.softmax",),
        "02",
        "standard",
    ),
    Equation(
        "cross-entropy",
        r"L_{CE} = -\frac{1}{|\Omega|} \sum_{i \in \Omega} \log p_{i, y_i}",
        ("knowsam_lite.losses.cross_entropy",),
        "02",
        "standard; Omega are the pixels whose class is known",
    ),
    Equation(
        "soft Dice loss",
        r"L_{Dice} = 1 - \frac{1}{C} \sum_{c=0}^{C-1} \frac{2 \sum_i p_{ic} y_{ic} + \mathrm{smooth}}{\sum_i p_{ic}^2 + \sum_i y_{ic} + \mathrm{smooth}}",
        ("knowsam_lite.losses.dice_loss",),
        "02",
        "Milletari et al., 2016; over the whole batch, background included",
    ),
    Equation(
        "supervision",
        r"L_{sup} = L_{CE} + L_{Dice}",
        ("knowsam_lite.losses.supervised_loss",),
        "02",
        PAPER,
        ("a/supervised", "b/supervised", "fused/supervised", "sam/supervised"),
    ),
    Equation(
        "subnet F_b",
        r"s_0 = S_0(x), \ v_i = \mathrm{down}_i(s_{i-1}), \ s_i = S_i(v_i), \quad \hat s_4 = s_4, \ \hat s_i = \hat S_i(\mathrm{up}_i(\hat s_{i+1}) + v_i), \ v_0 := s_0, \quad z_b = \mathrm{head}(\hat s_0)",
        ("knowsam_lite.subnets.conv_stage", "knowsam_lite.subnets.VNet"),
        "03",
        "Milletari et al., 2016, in two dimensions; the choice of skipped maps is the authors'",
    ),
    Equation(
        "Kaiming start",
        r"w \sim \mathcal{N}\big(0, \tfrac{2}{n_{in}}\big)",
        ("knowsam_lite.subnets.init_kaiming",),
        "03",
        "He et al., 2015",
    ),
    Equation(
        "consistency, k learns from j",
        r"L_{cons}^{k \leftarrow j} = -\frac{1}{|\Omega|} \sum_i \sum_{c=1}^{C} \mathrm{sg}(p_{jc}) \log p_{kc}",
        ("knowsam_lite.losses.consistency_loss",),
        "04",
        OURS,
        ("a/consistency", "b/consistency"),
    ),
    Equation(
        "entropy",
        r"h = -\frac{1}{\log C} \sum_{c=1}^{C} p_c \log p_c",
        ("knowsam_lite.uncertainty.entropy_map",),
        "05",
        "KnowSAM; the divisor log C is ours",
    ),
    Equation(
        "low entropy",
        r"L_{ent} = \frac{1}{|\Omega|} \sum_i h_i",
        ("knowsam_lite.losses.entropy_loss",),
        "04",
        PAPER,
        ("a/entropy", "b/entropy"),
    ),
    Equation(
        "ramp",
        r"w(t) = e^{-5 (1 - t / t_{max})^2}",
        ("knowsam_lite.methods.base.ramp",),
        "04",
        "Laine and Aila, 2017",
    ),
    Equation(
        "moving average",
        r"\theta' \leftarrow \alpha\, \theta' + (1 - \alpha)\, \theta, \quad \alpha = \min\big(1 - \tfrac{1}{t + 1},\ 0.99\big)",
        ("knowsam_lite.methods.ema.update_ema",),
        "04",
        "Mean Teacher (Tarvainen and Valpola, 2017), a baseline; no part of KnowSAM",
    ),
    Equation(
        "disagreement",
        r"d_c = [p_{a,c} > \tfrac12] \oplus [p_{b,c} > \tfrac12]",
        ("knowsam_lite.uncertainty.disagreement_map",),
        "05",
        PAPER,
    ),
    Equation(
        "fused logits",
        r"z_f = \mathrm{HAM}(1 - d,\ 1 - [h_a, h_b],\ [z_a, z_b])",
        ("knowsam_lite.aggregation.HybridAggregation",),
        "05",
        "KnowSAM; that the last layer is a plain convolution is ours",
    ),
    Equation(
        "adapter",
        r"A(x) = x + W_{up}\, \mathrm{GELU}(W_{down}\, x), \quad W_{up} = 0 \text{ at the start}",
        ("knowsam_lite.sam.adapter.Adapter",),
        "06",
        "Houlsby et al., 2019; the zero start is ours",
    ),
    Equation(
        "adapted block",
        r"x \leftarrow x + A(\mathrm{attn}(\mathrm{LN}_1 x)), \quad x \leftarrow x + \mathrm{MLP}(\mathrm{LN}_2 x) + \tfrac12 A'(\mathrm{LN}_2 x)",
        ("knowsam_lite.sam.encoder.AdapterBlock",),
        "06",
        "KnowSAM; A' is an adapter without its skip",
    ),
    Equation(
        "learnable prompts",
        r"t_c = \psi_c(E(x)) \in \mathbb{R}^{2 \times D}",
        ("knowsam_lite.sam.prompts.LearnablePrompts",),
        "07",
        "KnowSAM; that the tokens start at zero is ours",
    ),
    Equation(
        "mask prompt",
        r"m_c = \mathrm{sg}\Big(z_{f,c} - \log \sum_{k \neq c} e^{z_{f,k}}\Big)",
        ("knowsam_lite.sam.prompts.mask_prompts",),
        "07",
        "ours; the authors pass the raw channel",
    ),
    Equation(
        "SAM's answer",
        r"z_s = \mathrm{SAM}(x;\ \{t_c\}, \{m_c\})",
        ("knowsam_lite.sam.teacher.SamTeacher",),
        "07",
        PAPER,
    ),
    Equation(
        "distillation (SKD)",
        r"L_{SKD}^{k} = \frac{T^2}{|\Omega|} \sum_i \mathrm{KL}\big(\mathrm{softmax}(\mathrm{sg}(z_s) / T)\ \|\ \mathrm{softmax}(z_k / T)\big)",
        ("knowsam_lite.losses.distillation_loss",),
        "08",
        "Hinton et al., 2015; KnowSAM, with the mean over pixels and all C classes",
        ("a/distillation", "b/distillation"),
    ),
    Equation(
        "uncertainty of a region",
        r"u_r = \frac{1}{|r|} \sum_{i \in r} h_i(z_f)",
        ("knowsam_lite.mixing.uncertainty_map",),
        "09",
        PAPER,
    ),
    Equation(
        "chosen regions",
        r"R = \text{the } \mathrm{count} \text{ regions of largest } u_r",
        ("knowsam_lite.mixing.choose_regions",),
        "09",
        "KnowSAM, figure 3; the authors' code takes the smallest",
    ),
    Equation(
        "two-way copy and paste",
        r"\tilde{x}_l = M_l \odot x_u + (1 - M_l) \odot x_l, \quad \tilde{x}_u = M_u \odot x_l + (1 - M_u) \odot x_u",
        ("knowsam_lite.mixing.mix",),
        "09",
        PAPER,
    ),
    Equation(
        "own pseudo-labels",
        r"L_{ps}^{k} = L_{sup}\big(z_k,\ \arg\max_c z_{f,c}\big) \text{ on the mixed unlabelled half}",
        ("knowsam_lite.methods.knowsam.KnowSAM",),
        "09",
        PAPER,
        ("a/pseudo", "b/pseudo"),
    ),
    Equation(
        "the whole loss",
        r"L = \sum_{\text{terms}} L_{\text{term}}, \quad \text{each subnet's terms halved; SAM and the students do not reach into each other}",
        ("knowsam_lite.methods.knowsam.KnowSAM", "knowsam_lite.training.Trainer"),
        "10",
        PAPER,
    ),
    Equation(
        "mean of a bootstrap draw",
        r"\bar\delta^{(r)} = \frac{1}{S n} \sum_{s \in \mathrm{rows}_r} \sum_{i \in \mathrm{columns}_r} \delta_{si}",
        ("knowsam_lite.metrics.drawn_means", "knowsam_lite.metrics.paired_bootstrap"),
        "11",
        "standard; seeds and images both drawn with replacement, each pair kept together",
    ),
    Equation(
        "expected calibration error",
        r"\mathrm{ECE} = \sum_b \frac{n_b}{N} \left| \frac{A_b}{n_b} - \frac{C_b}{n_b} \right|",
        ("knowsam_lite.calibration.calibration_error", "knowsam_lite.calibration.reliability"),
        "11",
        "Naeini et al., 2015",
    ),
    Equation(
        "risk and coverage",
        r"\bar r(k) = \frac{1}{k} \sum_{j=1}^{k} r_{\pi(j)}, \quad \pi \text{ sorts by rising doubt}",
        ("knowsam_lite.calibration.risk_coverage",),
        "11",
        "El-Yaniv and Wiener, 2010",
    ),
    Equation(
        "BCP: one rectangle, both ways",
        r"\tilde{x}_l = M \odot x_u + (1 - M) \odot x_l, \quad \tilde{x}_u = M \odot x_l + (1 - M) \odot x_u, \quad L = L_{sup}(z, y_{true}) + \tfrac12 L_{sup}(z, y_{pseudo})",
        ("knowsam_lite.methods.bcp.paste", "knowsam_lite.methods.bcp.rectangle"),
        "12",
        "Bai et al., 2023; M is 1 inside the rectangle, each target -1 where the other is known",
    ),
    Equation(
        "SKD plugged into a method",
        r"L = L_{method} + L_{sup}(z_{s,l}, y) + \lambda_{SKD} L_{SKD}(z, \mathrm{sg}(z_s)), \quad z_s = \mathrm{SAM}(x;\ \psi, \mathrm{sg}(z))",
        ("knowsam_lite.methods.distillation.SamDistillation",),
        "12",
        "ours; z is the map of the method's own nets",
    ),
    Equation(
        "two rates",
        r"\theta_E \leftarrow \theta_E - \rho\,\eta f(t)\, u(\nabla_{\theta_E}), \quad \theta_D \leftarrow \theta_D - \eta f(t)\, u(\nabla_{\theta_D})",
        ("knowsam_lite.methods.base.students_optimizer",),
        "13",
        "standard; E is a pretrained encoder, D all else, u the optimizer's step; the published students have one rate",
    ),
    Equation(
        "decay and warm-up",
        r"f(t) = \Big(1 - \frac{\max(t - 1, 0)}{t_{max}}\Big) \min\Big(1, \frac{t + 1}{\max(w\, t_{max}, 1)}\Big)",
        ("knowsam_lite.methods.base.rate_factor",),
        "13",
        "the decay is the authors'; the warm-up is ours",
    ),
    Equation(
        "confident pseudo-labels",
        r"\hat y_i = \arg\max_c p_{ic} \text{ if } \max_c p_{ic} \ge \tau, \text{ else } -1; \quad L = -\frac{1}{|\Omega|} \sum_{i:\, \hat y_i \ne -1} \log p_{i, \hat y_i}",
        ("knowsam_lite.methods.fixmatch.confident", "knowsam_lite.methods.fixmatch.masked_cross_entropy"),
        "14",
        "FixMatch (Sohn et al., 2020); over all pixels, sure or not",
    ),
    Equation(
        "handover",
        r"r = \mathrm{Dice}(y, y_{EMA}) \cdot \mathrm{Dice}(y_{EMA}, y_{SAM}), \quad p = (1 - r)\, p_{SAM} + r\, p_{EMA}",
        ("knowsam_lite.methods.knowsam_plus.handover", "knowsam_lite.methods.knowsam_plus.agreement"),
        "14",
        "after SynFoC (Ma et al., 2025); each image has its r",
    ),
    Equation(
        "labels first",
        r"\mathrm{rise} = 0 \text{ before } t_1, \text{ then } e^{-5 (1 - t')^2}, \quad t' = \min\big((t / t_{max} - t_1) / 0.25,\ 1\big)",
        ("knowsam_lite.methods.knowsam_plus.rise",),
        "14",
        "ours, with the ramp of Laine and Aila, 2017; t_1 is 0.15",
    ),
    Equation(
        "CutMix from labels",
        r"\tilde x_u = M \odot x_l + (1 - M) \odot x_u, \quad \tilde y_u = M \odot y_l + (1 - M) \cdot (-1)",
        ("knowsam_lite.methods.knowsam_plus.with_labeled", "knowsam_lite.methods.fixmatch.boxes"),
        "14",
        "Yun et al., 2019; a rectangle for each image",
    ),
    Equation(
        "how far two masks are apart",
        r"d(A, B) = \frac{1}{C - 1} \sum_{c=1}^{C-1} \frac{|A_c \triangle B_c|}{\max(|A_c \cup B_c|, 1)}",
        ("knowsam_lite.suggest.scores.apart",),
        "15",
        "1 - IoU of what each student marks as class c",
    ),
    Equation(
        "images that differ: greedy k-center",
        r"i_{t+1} = \arg\max_i \min_{j \in S_t} \lVert f_i - f_j \rVert, \quad S_{t+1} = S_t \cup \{ i_{t+1} \}",
        ("knowsam_lite.suggest.choose.k_center",),
        "15",
        "Sener and Savarese, 2018; f are the encoder's features, S the images that are taken",
    ),
    Equation(
        "the next click",
        r"p^* = \arg\max_p \delta(p), \quad \delta(p) = \min_{q \notin \mathrm{region}} \lVert p - q \rVert",
        ("knowsam_lite.web.person.next_click", "knowsam_lite.web.person.innermost"),
        "15",
        "ours; of the missed and the added pixels the region that is deeper",
    ),
    Equation(
        "a resize as a matrix",
        r"R_{ij} = \tfrac1s |[is, (i+1)s] \cap [j, j+1]| \text{ to shrink}, \quad R_{ij} = \max(0, 1 - |j - c_i|), \; c_i = (i + \tfrac12) s - \tfrac12 \text{ to grow}",
        ("knowsam_lite.predict.export.resampling",),
        "15",
        "area averages and bilinear interpolation, as OpenCV computes them; s is the step, old over new length",
    ),
)

SYMBOLS = (
    Symbol("x", "x", "(N, 3, H, W)", "images, values in [0, 1]"),
    Symbol("y", "y", "(N, H, W)", "labels: class indices, -1 where unknown"),
    Symbol("N, C, H, W", "shape", "", "images in a batch, classes, height, width"),
    Symbol("F_a, F_b", "net_a, net_b", "", "the subnets: U-Net and 2-D V-Net"),
    Symbol(
        r"e_i, \hat e_i",
        "features",
        "(N, w_i, H / 2^i, W / 2^i)",
        "maps of level i on the U-Net's ways down and up",
    ),
    Symbol(
        r"v_i, s_i, \hat s_i",
        "x, skips",
        "(N, w_i, H / 2^i, W / 2^i)",
        "maps of level i in the V-Net: what enters a stage, what leaves it, and the way up",
    ),
    Symbol(
        "n_{in}", "weight[0].numel()", "", "fan-in: how many products make one number of a layer's output"
    ),
    Symbol("z_a, z_b", "z_a, z_b", "(N, C, H, W)", "logits of the subnets"),
    Symbol("z_f", "z_f", "(N, C, H, W)", "fused logits: HAM's answer, and the prediction"),
    Symbol("z_s", "z_s", "(N, C, H, W)", "SAM's logits"),
    Symbol(
        "p_a, p_b, p_f, p_s", "p_a, p_b, p_f, p_s", "(N, C, H, W)", "softmax of the logits over the classes"
    ),
    Symbol("h_a, h_b, h_f", "h_a, h_b, h_f", "(N, H, W)", "entropy divided by log C: 0 certain, 1 uniform"),
    Symbol("d", "d", "(N, C, H, W)", "disagreement of the subnets, 0 or 1 for each class"),
    Symbol("l, u", "l, u", "", "index of the labelled and of the unlabelled half of a batch"),
    Symbol(r"\psi", "learnable_prompts", "", "the learnable prompt module"),
    Symbol("t_c", "tokens", "(N, C, 2, D)", "prompt tokens of class c"),
    Symbol("E(x)", "embedding", "(N, D, g, g)", "SAM's image embedding, the encoder's output"),
    Symbol("m_c", "mask_prompts", "(N, C, 4g, 4g)", "mask prompt of class c"),
    Symbol("T", "temperature", "", "temperature of the distillation, 10"),
    Symbol("t, t_{max}", "step, steps", "", "number of the step, length of the run"),
    Symbol("w(t)", "ramp", "", "ramp, in [0, 1]: scales the weight of the losses that need no labels"),
    Symbol(r"\theta, \theta'", "student, teacher", "", "parameters of Mean Teacher's student and teacher"),
    Symbol(
        "u_r, R, M", "u, regions, paste", "(N, 4, 4)", "uncertainty of a region, chosen regions, their mask"
    ),
    Symbol(
        r"\delta_{si}", "delta", "(seeds, images)", "difference of two methods on one image with one seed"
    ),
    Symbol(
        r"n_b, C_b, A_b",
        "count, confident, correct",
        "(bins,)",
        "answers in a part, their confidence, those right",
    ),
    Symbol(r"\mathrm{sg}", "detach", "", "stops the gradient"),
    Symbol(r"\Omega", "", "", "the pixels over which a mean is taken"),
)

GLOSSARY = {
    "ablation": "training without or with one part of a method, all else equal, to see what it is worth",
    "adapter": "a small trainable bottleneck beside the frozen weights of a large network",
    "agreement": "1 minus the disagreement of the two subnets",
    "bootstrap": "drawing the cases again and again with replacement, to see how far their mean depends on luck",
    "buffer": "a tensor that a module holds and no optimizer trains, such as BatchNorm's running averages",
    "BatchNorm": "brings each channel to mean 0 and variance 1: in training by the batch's own, in evaluation by running averages",
    "calibration": "whether answers given with confidence c are right in a share c of all cases",
    "certainty": "1 minus the entropy divided by log C",
    "confirmation bias": "learning one's own mistakes: a network that takes its answers for the truth grows surer of them",
    "connected component": "pixels of one class that are connected by their edges",
    "consistency": "a loss that makes two views of the same image give the same answer",
    "contract": "what the training loop requires of a method: its loss terms and its prediction, and a few things with defaults",
    "confidence": "the largest probability that a network gives at a pixel",
    "covering radius": "how far the loneliest image of a pool is from all that are labelled or chosen",
    "coverage": "the share of cases that is kept when the most uncertain ones are passed to someone else",
    "decoder": "the part of a network that turns small maps into large ones, on the way up",
    "Dice": "twice the overlap of two masks over the sum of their areas: 1 identical, 0 disjoint",
    "disagreement": "where exactly one of the two subnets gives a class more than half of the probability",
    "distillation": "training a small network, the student, on the soft answers of a large one, the teacher",
    "draft": "a model's mask for an image without label, for a person to correct",
    "dropout": "sets random numbers to 0 while a network trains, so that it cannot rely on any single one",
    "ECE": "expected calibration error: mean gap between confidence and the share of right answers",
    "encoder": "the part of a network that turns large maps into small ones, on the way down",
    "ensemble": "several networks whose probabilities are averaged; it needs no unlabelled image",
    "entropy": "how uncertain a prediction is: 0 when one class has all the probability, largest when all are equal",
    "fan-in": "how many products are summed to make one number of a layer's output",
    "frozen": "not trained: without gradient and not in any optimizer",
    "fused map": "HAM's answer, one map made of the subnets' two",
    "GELU": "an activation: x times the probability that a standard normal number is smaller than x; a soft ReLU",
    "group": "images that belong together (a patient, a video) and are never in two splits",
    "HAM": "hybrid aggregation module: reads both logits, their entropies and their disagreement",
    "Hausdorff distance": "the largest distance from a pixel of one mask's border to the other's border",
    "HD95": "95th percentile of the distances between two masks' borders",
    "hook": "a function that PyTorch calls whenever a module has computed its output",
    "int8": "whole numbers from -128 to 127, one byte each; weights stored so take a quarter of the space",
    "IoU": "intersection over union: the overlap of two masks over the area that either of them claims",
    "Kaiming start": "random first weights of variance 2 / fan-in, which keep the signal's size behind a ReLU",
    "k-center": "choosing images so that each is far from all that are labelled or chosen already",
    "labelled half": "the first part of a batch: images whose masks are known",
    "ImageNet": "1.3 million photographs of 1,000 kinds of things, on which encoders are pretrained",
    "LayerNorm": "brings the numbers of one token to mean 0 and variance 1, whatever the rest of the batch is",
    "leak": "information about the test set that reaches training: a slice of the same patient, a copy of an image, a label",
    "linear probe": "a linear function of frozen features, solved for: what it can tell apart, the features know",
    "log-odds": "logarithm of a class's probability over that of all others: above 0 where it has the majority",
    "logits": "a network's answer before the softmax, any real numbers",
    "LPS": "learnable prompt strategy: prompt tokens made from SAM's own features",
    "mask prompt": "a rough mask, as logits, given to SAM as a prompt",
    "max-pooling": "keeps the largest of each 2 x 2 pixels: half the height and width",
    "MC": "multi-view co-training: the two subnets teach each other",
    "Mean Teacher": "a baseline: the student learns the answers that the moving average of its weights gives to noisy images",
    "MLP": "multilayer perceptron: two linear layers with an activation between, applied to each token alone",
    "model card": "the page that goes with a model: what it learned from, how well it works, what it is not for",
    "ONNX": "a file format for trained networks that many runtimes read, without Python",
    "prompt": "what tells SAM which object is meant: points, a box, a mask, or learned tokens",
    "pseudo-label": "a network's own answer, used as if it were the truth",
    "ramp": "a weight that rises during the run, so that early guesses teach little",
    "receptive field": "the part of the image that an output pixel depends on",
    "region": "one cell of the grid that UGDA lays over an image; it is exchanged as a whole",
    "SAM": "Segment Anything Model: an image encoder, a prompt encoder and a mask decoder",
    "selective prediction": "keeping the answers of little doubt and passing the others to a person",
    "semi-supervised": "learning from few labelled and many unlabelled images",
    "skip": "a connection that passes a map from the way down to the way up at the same size",
    "SKD": "SAM-induced knowledge distillation: SAM's answer teaches both subnets",
    "tie": "a difference whose interval contains 0: these seeds and images do not decide",
    "stream": "an endless walk through images, one seeded shuffle after another",
    "soft Dice loss": "1 minus Dice with probabilities in place of a mask, so that it has a gradient",
    "stage": "the convolutions of one level of the V-Net, each with a ReLU",
    "strong augmentation": "geometric changes and changes of appearance (colour, blur, noise); for the unlabelled half",
    "student": "one of the two small networks that are kept in the end",
    "subnet": "the U-Net F_a or the V-Net F_b",
    "teacher": "the network whose answer another one learns; here SAM, with adapters",
    "temperature": "divides the logits before the softmax: above 1 it makes the answer softer",
    "token": "one vector of a transformer: made from a patch of the image, or from a prompt",
    "transposed convolution": "each pixel becomes several by learned weights: with 2 x 2 and stride 2 it doubles a map",
    "strided convolution": "a convolution that moves by more than one pixel: with 2 x 2 and stride 2 it halves a map",
    "UGDA": "uncertainty-guided data augmentation: uncertain regions are exchanged between images",
    "unlabelled half": "the second part of a batch: images whose masks are never opened",
    "view": "one of two networks that look at the same image and are meant to err in different places",
    "volume": "a scan, a stack of slices: one case, scored as a whole in mm",
    "warm-up": "the first part of a run, in which the learning rates rise from nearly 0",
    "weak augmentation": "geometric changes alone: flips, rotations, small shifts; for the labelled half",
}
