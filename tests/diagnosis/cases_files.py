"""Plantings in files: checkpoints, configs, packages, code and texts."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.planted_code import HRNET_W32, heatmaps, own_code, published, vitpose_config
from tests.diagnosis.planted_logs import logged
from tests.diagnosis.planted_texts import claims_about, damaged, head_code, mask_code, message
from tests.diagnosis.planted_weights import (
    among_epochs,
    called,
    checkpoint,
    cut,
    fresh_norms,
    half_overflow,
    noisy,
    part_of_epoch,
    quantised,
    renamed_part,
    scaled,
    statistics_of_first,
    with_config_text,
    with_earlier,
    zero_units,
)
from tests.diagnosis.systems import HIGHERHRNET, OTHER_VITPOSE, RTMPOSE, TEXT, VITPOSE, Case

PARTLY, NORMS = ("weights only partly loaded",), ("batch-norm statistics do not fit",)
OPENED, UNREAD = ("checkpoint cannot be opened",), ("file cannot be read",)
NAMED, UNBUILT = ("file is not what its name or config says",), ("model cannot be built or run",)
KEYS = ("config keys at a wrong place",)
STATEMENTS, HEAD = ("statements that the published files deny",), ("head cannot load the published weights",)
STALE, LEVELS = ("weights of one part of an earlier epoch",), ("weights are quantised",)
MASK, CEILING = ("consistency loss is always 0",), ("codec ceiling",)

FAULTS: tuple[Case, ...] = (
    Case("one stage renamed", "rtmpose", checkpoint(renamed_part("backbone.stage3.")), PARTLY, "weak"),
    Case("head of epoch 10", "rtmpose", among_epochs(part_of_epoch("head.", -3)), STALE, "weak", both=("batch-norm statistics do not fit",)),
    Case("stage 3 of epoch 1 among other epochs", "rtmpose", among_epochs(part_of_epoch("backbone.stage3", 0)), STALE, "strong", both=("batch-norm statistics do not fit",)),
    Case("vitpose: head of epoch 40", "vitpose", among_epochs(part_of_epoch("head.", 0, VITPOSE), VITPOSE, (0, -2)), STALE, "strong"),
    Case("16 levels", "rtmpose", checkpoint(quantised(16)), LEVELS, "weak"),
    Case("vitpose: 8 levels in each channel", "vitpose", with_earlier(quantised(8, "", True), VITPOSE, earlier=-2), LEVELS, "weak"),
    Case("stage 2 in 4 levels", "rtmpose", with_earlier(quantised(4, "backbone.stage2"), earlier=-2), LEVELS, "strong", both=("batch-norm statistics do not fit",)),
    Case("heatmaps: norms as new", "heatmaps", heatmaps(weights=fresh_norms(1.0)), NORMS, "strong"),
    Case("file cut in half", "rtmpose", cut(0.5), OPENED, "strong", "files"),
    Case("vitpose: last hundredth of the file missing", "vitpose", cut(0.99, VITPOSE), OPENED, "weak", "files"),
    Case("config with a bracket missing", "rtmpose", damaged("config.py", "model = dict(\n    type='A',\n"), UNREAD, "strong", "files"),
    Case("results cut off", "results", damaged("results.json", '[{"image_id": 1, "category_id": 1, "keypoints": [1, 2'), UNREAD, "strong", "files"),
    Case("file called 256x192", "rtmpose", called("rtmpose-m_256x192.pth"), NAMED, "strong", "files", says=("says 256x192, the tensors say 128x128",)),
    Case("people: file called w48", "higherhrnet", called("higherhrnet_w48_512.pth", HIGHERHRNET), NAMED, "strong", "files", says=("says w48, the tensors say w12",)),
    Case("config inside says 133 keypoints", "rtmpose", checkpoint(with_config_text(r"out_channels=17", "out_channels=133"), data=False), (*NAMED, "head and data set of two skeletons"), "weak", "files", both=NAMED, says=("133 maps.*17 keypoints",)),
    Case("own code: forward pass of another input", "rtmpose", own_code(RTMPOSE, pixels="[:, :, ::2]"), UNBUILT, "strong"),
    Case("vitpose: own code fails at the last channel", "vitpose", own_code(VITPOSE, decode="keypoints=p.keypoints[:, 2]"), UNBUILT, "weak"),
    Case("hrnet config: key of the head in the backbone", "hrnet config", published(HRNET_W32, (r"type='HRNet',", "type='HRNet', out_channels=17,")), KEYS, "weak", "files", says=(r"model\.backbone\.out_channels",)),
    Case("vitpose config: two input sizes", "vitpose config", vitpose_config((r"decoder=codec\)", "decoder=dict(type='UDPHeatmap', input_size=(288, 384), heatmap_size=(72, 96), sigma=3))")), ("targets encoded otherwise than outputs are decoded",), "strong", "files", both=("head encodes targets otherwise",), plants="config against itself", says=(r"\(192, 256\).*\(288, 384\)",)),
    Case("vitpose config: encoder with another sigma", "vitpose config", vitpose_config((r"encoder=codec\)", "encoder=dict(type='UDPHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=3))")), ("targets encoded otherwise than outputs are decoded",), "weak", "files", plants="sigma of the targets", says=("sigma is 3.*sigma is 2",)),
    Case("config: targets with four times the sigma", "logs", logged(None, (r"(encoder=dict\(\s+input_size=\(\s+128,\s+128,\s+\),\s+normalize=False,\s+sigma=\(\s+)4\.0,(\s+)4\.0", r"\g<1>16.0,\g<2>16.0")), ("targets encoded otherwise than outputs are decoded",), "strong", "files", plants="sigma of the targets", says=(r"\(16, 16\).*\(4, 4\)",)),
    Case("message: sizes of a mat1 and a layer", "rtmpose", message("RuntimeError: mat1 and mat2 shapes cannot be multiplied (136x8 and 64x128)"), ("flatten is missing before a linear layer",), "strong", "files", plants="error message", says=("136 = 17",)),
    Case("message: size mismatch for", "vitpose", message("RuntimeError: Error(s) in loading state_dict for ViTPose: size mismatch for head.final_layer.weight: copying a param with shape torch.Size([17, 256, 1, 1]) from checkpoint, the shape in current model is torch.Size([133, 256, 1, 1])."), ("checkpoint and config of different networks",), "weak", "files", plants="error message"),
    Case("audit of sapiens, half of it wrong", "sapiens", claims_about("sapiens", wrong=6), STATEMENTS, "strong", "files"),
    Case("audit of vitpose, a third of it wrong", "vitpose", claims_about("vitpose", wrong=3), STATEMENTS, "weak", "files"),
    Case("head of sapiens with batch norm", "sapiens", head_code("BatchNorm2d", "True"), (*HEAD, *STATEMENTS), "strong", "files", both=(*HEAD, *STATEMENTS), says=("BatchNorm2d.*InstanceNorm2d",)),
    Case("mask above .7 after a softmax", "sapiens", mask_code("0.7"), MASK, "strong", "files", says=(r"exceeds 0\.7", r"0\.0023",)),
    Case("hrnet config: maps of a sixteenth of the input", "hrnet config", published(HRNET_W32, (r"heatmap_size=\(48, 64\)", "heatmap_size=(12, 16)")), CEILING, "strong", both=("the heatmap does not fit the input", "sigma does not belong to the heatmap size")),
)  # fmt: skip

HELD_OUT: tuple[Case, ...] = (
    Case("held: people, block 2 of epoch 40", "vitpose, people", among_epochs(part_of_epoch("backbone.layers.2", 0, OTHER_VITPOSE), OTHER_VITPOSE, (0, -2)), STALE, "weak"),
    Case("held: people, 16 levels", "vitpose, people", checkpoint(quantised(16), OTHER_VITPOSE), LEVELS, "strong"),
    Case("held: text, neck renamed", "text", checkpoint(renamed_part("neck.", "fusion."), TEXT), PARTLY, "strong"),
    Case("held: heatmaps, a third of the norms as new", "heatmaps", heatmaps(weights=fresh_norms(0.34)), NORMS, "weak"),
    Case("held: higherhrnet, a tenth of the file missing", "higherhrnet", cut(0.9, HIGHERHRNET), OPENED, "weak", "files"),
    Case("held: higherhrnet, all norms in evaluation mode", "higherhrnet", with_earlier(statistics_of_first(1.0, HIGHERHRNET), HIGHERHRNET, data=False), ("batch-norm statistics not updated",), "strong", "files"),
    Case("held: higherhrnet, half precision", "higherhrnet", checkpoint(half_overflow(("conv1.weight",), 1e7), HIGHERHRNET, data=False), ("weights that are not finite",), "weak", "files"),
    Case("held: text, a quarter of the neck's units zero", "text", checkpoint(zero_units("neck.local_mlp.0.weight", 0.25), TEXT, data=False), ("units with all weights zero",), "weak", "files", says=("32 of 128 units of neck",)),
    Case("held: higherhrnet, stage 4 scaled", "higherhrnet", with_earlier(scaled("stage4", 2.5), HIGHERHRNET, earlier=-2, data=False), ("weights of one part scaled",), "strong", "files", says=("^stage4",)),
    Case("held: vitpose, a little noise in block 0", "vitpose", with_earlier(noisy("backbone.layers.0", 0.6, 7), VITPOSE, earlier=-2), ("weights of one part disturbed",), "weak"),
    Case("held: adapter with a wrong key", "vitpose, people", own_code(OTHER_VITPOSE, "stride=4"), UNBUILT, "strong"),
    Case("held, annotations: cut off", "results", damaged("annotations.json", '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1, "keypoi'), UNREAD, "weak", "files"),
    Case("held, config: sigma of the targets twice as large", "logs", logged(None, (r"(encoder=dict\(\s+input_size=\(\s+128,\s+128,\s+\),\s+normalize=False,\s+sigma=\(\s+)4\.0,(\s+)4\.0", r"\g<1>8.0,\g<2>8.0")), ("targets encoded otherwise than outputs are decoded",), "weak", "files", plants="sigma of the targets", says=(r"\(8, 8\).*\(4, 4\)",)),
    Case("held, vitpose config: 16 keypoints", "vitpose config", vitpose_config((r"out_channels=17", "out_channels=16")), ("head and data set of two skeletons",), "weak", "files", both=("the head's keypoints",), plants="config against itself", says=("16 maps.*17 keypoints",)),
    Case("held, hrnet config: three keys misplaced", "hrnet config", published(HRNET_W32, (r"type='HRNet',", "type='HRNet', out_channels=17, decoder=None, img_size=256,")), KEYS, "strong", "files", says=("3 keys",)),
    Case("held, message: missing keys", "higherhrnet", message('RuntimeError: Error(s) in loading state_dict for HigherHRNet: Missing key(s) in state_dict: "conv1.weight"'), ("tensor names differ",), "weak", "files", plants="error message"),
    Case("held, vitpose config: plain codec at an eighth of the input", "vitpose config", vitpose_config((r"heatmap_size=\(48, 64\)", "heatmap_size=(24, 32)"), ("UDPHeatmap", "MSRAHeatmap"), ("use_udp=True", "use_udp=False"), ("shift_heatmap=False", "shift_heatmap=True")), CEILING, "weak", both=("the heatmap does not fit the input", "sigma does not belong to the heatmap size")),
    Case("held: audit of rtmpose, most of it wrong", "rtmpose", claims_about("rtmpose", wrong=5), STATEMENTS, "strong", "files"),
    Case("held: head of sapiens without biases", "sapiens", head_code("InstanceNorm2d", "False"), (*HEAD, *STATEMENTS), "weak", "files", both=(*HEAD, *STATEMENTS), says=("conv_bias False, published True",)),
    Case("held: mask above .3 after a softmax", "vitpose config", mask_code("0.3", "vitpose"), MASK, "weak", "files", says=(r"exceeds 0\.3", r"0\.0023",)),
)  # fmt: skip
