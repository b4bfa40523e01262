"""The conditioning clinic: what do text, neck and refiner do, and does inference do what training did?

Inspectors of one run lie here (they are listed in workbench.inspectors), and what needs a data set or several
checkpoints: `ablation`, `ranking`, `over_epochs`. `clinic` asks all of them and names the defects.
"""
