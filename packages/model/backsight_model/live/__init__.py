"""The live loop: pull, score, build, publish and forecast at each bar close, as a person would run the verbs."""
