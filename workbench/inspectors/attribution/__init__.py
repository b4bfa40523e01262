"""Attribution: which parts of the input does an output of the network depend on?

A target is one number that the network gives for one keypoint: the heatmap value at its peak, a SimCC logit,
a distance between tags, a token's coordinate (`targets`). Each inspector asks in another way what that number
depends on; `methods` holds the two that are faster than captum's and equal to it.
"""
